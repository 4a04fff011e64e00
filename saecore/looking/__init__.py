"""Features one can look at: what activates them, and how often; one pass over the text."""

from saecore.looking.features import Features, features

__all__ = ["Features", "features"]
