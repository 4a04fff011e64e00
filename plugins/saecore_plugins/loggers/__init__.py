"""Built-in plugins of the kind logger."""
