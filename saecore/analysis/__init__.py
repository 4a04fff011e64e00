"""Analysis of single features: what activates them, how often, and a dashboard of them."""

from saecore.analysis.features import Features, features

__all__ = ["Features", "features"]
