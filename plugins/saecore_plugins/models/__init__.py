"""Built-in plugins of the kind model."""
