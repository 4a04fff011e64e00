"""Built-in plugins of the kind dead_latents."""
