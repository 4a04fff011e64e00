"""Plan a run before it starts: steps, memory item by item, time.

Memory is counted from the sizes of tensors. The working memory of model and architecture is
measured if `profile.measure` has run, otherwise estimated by rules of thumb. A logger or evaluator
that needs much memory has a method `extra_memory(sizes: RunSizes) -> int` in its config, which
returns bytes.
"""
