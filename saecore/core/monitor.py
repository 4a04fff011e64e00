"""Monitors: inspect a run at each log interval and warn."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Protocol

import attrs
from torch import Tensor

from saecore.core.normalizer import Normalizer
from saecore.core.sae import SAE
from saecore.core.step import Batch


@attrs.frozen(eq=False, kw_only=True)
class View:
    """What a monitor sees of a run: metrics, and the last batch or part of it."""

    step: int
    """Number of completed steps."""
    metrics: Mapping[str, float]
    """The metrics of this log interval."""
    sae: SAE
    """The SAE in its training form; read-only."""
    normalizer: Normalizer
    """The normalizer of the activations."""
    batch: Batch
    """The normalized batch, `[N, d_in]` or `[N, hooks, d]`."""
    targets: Tensor
    """The activations to reconstruct `[N, d_out]`."""
    reconstruction: Tensor
    """Their reconstruction, in the same units `[N, d_out]`."""

    @cached_property
    def mean_norm(self) -> float:
        """Mean norm of the normalized inputs, divided by √d."""
        x = self.batch.inputs.float()
        return float(x.norm(dim=-1).mean()) / float(x.shape[-1] ** 0.5)

    @cached_property
    def token_losses(self) -> Tensor:
        """Squared error of each token `[N]`."""
        error = (self.reconstruction - self.targets).float()
        return error.square().flatten(1).sum(-1)


class Monitor(Protocol):
    """Inspects a run. A monitor may keep state, which a resumed run starts without."""

    def __call__(self, view: View) -> str | None:
        """Return a warning with its remedy, or None."""
        ...
