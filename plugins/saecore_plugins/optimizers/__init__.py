"""Built-in plugins of the kind optimizer."""
