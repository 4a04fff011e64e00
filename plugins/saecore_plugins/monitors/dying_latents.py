"""Latents that die faster than they revive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, above, at_least, hookimpl

if TYPE_CHECKING:
    from saecore.core.monitor import View


@attrs.frozen
class DyingLatentsConfig:
    """When a dictionary counts as dying."""

    share: float = attrs.field(default=0.1, validator=above(0))
    """Share of dead latents from which their growth is reported."""
    intervals: int = attrs.field(default=10, validator=at_least(2))
    """Consecutive log intervals in which their number grows; a remedy such as AuxK also takes some
    intervals to have an effect."""


class DyingLatents:
    """Warns when the number of dead latents is large and keeps growing."""

    def __init__(self, config: DyingLatentsConfig) -> None:
        self.config = config
        self._dead = 0.0
        self._growing = 0

    def __call__(self, view: View) -> str | None:
        """Count consecutive log intervals with more dead latents than before."""
        dead = view.metrics.get("sparsity/dead_features", 0.0)
        self._growing = self._growing + 1 if dead > self._dead else 0
        self._dead = dead
        d_sae = view.sae.cfg.d_sae
        if self._growing < self.config.intervals or dead <= self.config.share * d_sae:
            return None
        return (
            f"{dead:.0f} of {d_sae} latents are dead, more in each of {self._growing} log "
            'intervals; set sae.dead_latents = "auxk" (or raise its coefficient), lower '
            "training.lr or the sparsity, or lengthen the warm-up"
        )


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="monitor",
        name="dying_latents",
        config=DyingLatentsConfig,
        build=DyingLatents,
        summary="latents that die faster than they revive",
    )
