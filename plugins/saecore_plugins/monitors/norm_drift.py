"""Activations whose norm drifts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, above, at_least, hookimpl

if TYPE_CHECKING:
    from saecore.core.monitor import View


@attrs.frozen
class NormDriftConfig:
    """What counts as drift."""

    change: float = attrs.field(default=0.2, validator=above(0))
    """Relative change of the mean norm."""
    intervals: int = attrs.field(default=10, validator=at_least(1))
    """Number of first and of latest log intervals over which norms are averaged."""


class NormDrift:
    """Warns when activations become larger or smaller than at the start."""

    def __init__(self, config: NormDriftConfig) -> None:
        self.config = config
        self._first: list[float] = []
        self._latest: list[float] = []

    def __call__(self, view: View) -> str | None:
        """Compare the mean norm of the latest log intervals with that of the first."""
        intervals = self.config.intervals
        if len(self._first) < intervals:
            self._first.append(view.mean_norm)
            return None
        self._latest = [*self._latest, view.mean_norm][-intervals:]
        before, now = sum(self._first) / intervals, sum(self._latest) / len(self._latest)
        if len(self._latest) < intervals or abs(now - before) <= self.config.change * before:
            return None
        return (
            f"the mean norm of activations went from {before:.3g}·√d to {now:.3g}·√d; the text "
            "changes along the stream: raise buffer.tokens, shuffle the documents, or estimate the "
            "normalizer over more tokens"
        )


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="monitor",
        name="norm_drift",
        config=NormDriftConfig,
        build=NormDrift,
        summary="activations whose norm drifts along the stream",
    )
