"""No remedy for dead latents; they are only counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.sae import SAE
    from saecore.step import Batch, StepContext, StepOutput


@attrs.frozen
class NoneConfig:
    """Settings of doing nothing."""

    after_tokens: int = attrs.field(default=10_000_000, validator=at_least(1))
    """A latent counts as dead when it has not fired for more than this many tokens."""


class NoRemedy:
    """Adds no loss."""

    def __init__(self, config: NoneConfig) -> None:
        self.after_tokens = config.after_tokens

    def losses(
        self, sae: SAE, batch: Batch, output: StepOutput, context: StepContext
    ) -> dict[str, Tensor]:
        """No losses."""
        return {}


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the strategy."""
    yield Component(
        kind="dead_latents",
        name="none",
        config=NoneConfig,
        build=NoRemedy,
        summary="dead latents are counted, not revived",
    )
