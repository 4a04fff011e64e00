"""Activations on disk: written once from a model, trained on as often as one likes.

A cache is the stream of a window, cut into shards: what is read from it in order is what a run
with the same `[dataset]` and `[buffer]` would have made live, in float32 bit for bit.
"""
