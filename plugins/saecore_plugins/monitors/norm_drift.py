"""Activations whose norm drifts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import above, at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.monitors import View


@attrs.frozen
class NormDriftConfig:
    """What counts as drift."""

    change: float = attrs.field(default=0.2, validator=above(0))
    """Relative change of the mean norm."""
    intervals: int = attrs.field(default=10, validator=at_least(1))
    """Log intervals at the beginning, and the latest ones, over which norms are averaged."""


class NormDrift:
    """Warns when activations have become larger or smaller than at the beginning."""

    def __init__(self, config: NormDriftConfig) -> None:
        self.config = config
        self._first: list[float] = []
        self._latest: list[float] = []

    def __call__(self, view: View) -> str | None:
        """Compare the mean norm of the latest log intervals with that of the first."""
        wanted = self.config.intervals
        if len(self._first) < wanted:
            self._first.append(view.mean_norm)
            return None
        self._latest = [*self._latest, view.mean_norm][-wanted:]
        before, now = sum(self._first) / wanted, sum(self._latest) / len(self._latest)
        if len(self._latest) < wanted or abs(now - before) <= self.config.change * before:
            return None
        return (
            f"the mean norm of activations went from {before:.3g}·√d to {now:.3g}·√d; the text "
            "changes along the stream: raise buffer.tokens, shuffle the documents, or estimate the "
            "normalizer over more tokens"
        )


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the monitor."""
    yield Component(
        kind="monitor",
        name="norm_drift",
        config=NormDriftConfig,
        build=NormDrift,
        summary="activations whose norm drifts along the stream",
    )
