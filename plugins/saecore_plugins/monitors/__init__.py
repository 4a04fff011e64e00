"""Built-in plugins of the kind monitor."""
