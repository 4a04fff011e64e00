"""Activations on disk: written once from a model, trained on any number of times.

A cache is the stream of a mixing buffer, cut into shards. Read in order, it gives exactly the rows
that a run with the same `[dataset]` and `[buffer]` would make live: in float32, bit for bit.
"""
