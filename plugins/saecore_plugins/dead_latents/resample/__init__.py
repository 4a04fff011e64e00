"""Resampling: restart dead latents from badly reconstructed inputs (Bricken et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from saecore.core.dead_latents import DeadLatentsConfig
from saecore.plugins import Component, at_least, hookimpl


@attrs.frozen(kw_only=True)
class ResampleConfig(DeadLatentsConfig):
    """Settings of resampling."""

    every_steps: int = attrs.field(validator=at_least(1), kw_only=True)
    """Number of steps between resamplings."""
    until_step: int | None = attrs.field(default=None, validator=at_least(1))
    """Last step at which latents are resampled; default: the end of the run."""
    probability: Literal["squared_loss", "loss"] = "squared_loss"
    """Draw inputs with probability proportional to their squared loss (Bricken et al. 2023) or to
    their loss, the squared error."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dead_latents",
        name="resample",
        config=ResampleConfig,
        build="saecore_plugins.dead_latents.resample.strategy:Resample",
        summary="dead latents start again from badly reconstructed inputs",
    )
