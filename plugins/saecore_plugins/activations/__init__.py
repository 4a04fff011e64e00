"""Built-in plugins of the kind activation."""
