"""Built-in plugins of the kind evaluator."""
