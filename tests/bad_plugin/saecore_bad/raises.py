"""Fails when asked what it offers."""

from saecore import hookimpl


@hookimpl
def saecore_components():
    """Raise."""
    raise KeyError("no components today")
