"""Settings in a dataclass."""

from dataclasses import dataclass

from saecore import Component, hookimpl


@dataclass
class Settings:
    """Not attrs."""

    steps: int = 3


@hookimpl
def saecore_components():
    """Offer a schedule."""
    yield Component(
        kind="schedule",
        name="no_attrs",
        config=Settings,
        build=lambda config: lambda step, total: 1.0,
        summary="one",
    )
