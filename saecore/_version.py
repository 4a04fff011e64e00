"""The version of saecore."""

__version__ = "0.1.0"
