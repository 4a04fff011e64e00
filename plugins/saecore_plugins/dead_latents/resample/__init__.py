"""Resampling: dead latents start again from badly reconstructed inputs (Bricken et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from saecore.components import Component
from saecore.config.dead_latents import DeadLatentsConfig
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class ResampleConfig(DeadLatentsConfig):
    """Settings of resampling."""

    every_steps: int = attrs.field(validator=at_least(1), kw_only=True)
    """Steps between two resamplings."""
    until_step: int | None = attrs.field(default=None, validator=at_least(1))
    """Last step after which latents are resampled; default: until the end."""
    probability: Literal["squared_loss", "loss"] = "squared_loss"
    """What an input's chance of being drawn is proportional to: the square of its loss (Bricken et
    al. 2023) or the loss itself, its squared error."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the strategy."""
    yield Component(
        kind="dead_latents",
        name="resample",
        config=ResampleConfig,
        build="saecore_plugins.dead_latents.resample.strategy:Resample",
        summary="dead latents start again from badly reconstructed inputs",
    )
