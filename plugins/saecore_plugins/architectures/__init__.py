"""Built-in plugins of the kind architecture."""
