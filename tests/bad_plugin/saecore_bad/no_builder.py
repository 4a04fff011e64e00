"""A builder that is neither a function nor the name of one."""

import attrs

from saecore import Component, hookimpl


@attrs.frozen
class Nothing:
    """No settings."""


@hookimpl
def saecore_components():
    """Offer a schedule."""
    yield Component(kind="schedule", name="no_builder", config=Nothing, build=1.0, summary="one")
