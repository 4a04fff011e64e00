"""Latents that die faster than they revive."""

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
class DyingLatentsConfig:
    """When a dictionary counts as dying."""

    share: float = attrs.field(default=0.1, validator=above(0))
    """Share of dead latents from which on more of them are reported."""
    intervals: int = attrs.field(default=10, validator=at_least(2))
    """Log intervals in a row in which their number grows; those that a remedy such as AuxK revives
    grow for some intervals too, before it takes hold."""


class DyingLatents:
    """Warns when the number of dead latents is large and goes on growing."""

    def __init__(self, config: DyingLatentsConfig) -> None:
        self.config = config
        self._dead = 0.0
        self._growing = 0

    def __call__(self, view: View) -> str | None:
        """Count the log intervals in which dead latents have become more."""
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
    """Offer the monitor."""
    yield Component(
        kind="monitor",
        name="dying_latents",
        config=DyingLatentsConfig,
        build=DyingLatents,
        summary="latents that die faster than they revive",
    )
