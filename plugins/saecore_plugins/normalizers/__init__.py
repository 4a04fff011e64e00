"""Built-in plugins of the kind normalizer."""
