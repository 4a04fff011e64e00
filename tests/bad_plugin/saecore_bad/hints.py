"""Settings whose types exist for type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from saecore import Component, hookimpl

if TYPE_CHECKING:
    from pathlib import Path


@attrs.frozen
class Settings:
    """Where to look."""

    path: Path | None = None


@hookimpl
def saecore_components():
    """Offer a schedule."""
    yield Component(
        kind="schedule",
        name="hints",
        config=Settings,
        build=lambda config: lambda step, total: 1.0,
        summary="one",
    )
