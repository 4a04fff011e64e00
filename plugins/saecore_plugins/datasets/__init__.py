"""Built-in plugins of the kind dataset."""
