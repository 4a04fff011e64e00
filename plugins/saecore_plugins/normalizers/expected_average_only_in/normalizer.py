"""Scaling to a mean norm of √d."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor

from saecore.core.normalizer import NormalizerStrategy
from saecore.core.sae import SAE
from saecore.core.step import Batch
from saecore.errors import NumericsError

if TYPE_CHECKING:
    from saecore_plugins.normalizers.expected_average_only_in import ExpectedAverageConfig

Factor = float | Tensor
"""A number, or one for each of several hooks `[hooks]`, float64."""


class ExpectedAverage(NormalizerStrategy):
    """Multiplies by s = √d / mean ‖x‖ (Anthropic, April 2024; the name is SAELens').

    Each of several input hooks has its own factor, and so do targets of a different hook.
    """

    def __init__(self, config: ExpectedAverageConfig) -> None:
        super().__init__(config)
        self.tokens = config.tokens
        self.factor: Factor = 1.0
        self.target_factor: Factor | None = None
        """The factors of targets, if they come from a different hook than the inputs."""

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Estimate the mean norms of inputs and of targets, if these differ.

        Raises:
            NumericsError: a mean norm is zero or not finite.
        """
        inputs, targets = _MeanNorm("inputs"), _MeanNorm("targets")
        for batch in batches:
            inputs.add(batch.inputs)
            if batch.targets is not batch.inputs:
                targets.add(batch.targets)
        self.factor = inputs.factor()
        self.target_factor = targets.factor() if targets.count else None

    def apply(self, batch: Batch) -> Batch:
        """Scale inputs and targets."""
        if self.target_factor is None:
            return batch.map(lambda x: _scaled(x, self.factor))
        return attrs.evolve(
            batch,
            inputs=_scaled(batch.inputs, self.factor),
            targets=_scaled(batch.targets, self.target_factor),
        )

    def fold(self, sae: SAE) -> None:
        """Fold the factors into the weights."""
        factor = _joined(self.factor, sae.cfg.d_in, sae)
        out = (
            None if self.target_factor is None else _joined(self.target_factor, sae.cfg.d_out, sae)
        )
        sae.scale_input(factor, out)

    def unfold(self, sae: SAE) -> None:
        """Remove the factors from weights for raw activations."""
        factor = 1 / _joined(self.factor, sae.cfg.d_in, sae)
        out = (
            None if self.target_factor is None else _joined(self.target_factor, sae.cfg.d_out, sae)
        )
        sae.scale_input(factor, None if out is None else 1 / out)

    def state_dict(self) -> dict[str, Any]:
        """The factors."""
        return {"factor": self.factor, "target_factor": self.target_factor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the factors."""
        self.factor = state["factor"]
        self.target_factor = state["target_factor"]


class _MeanNorm:
    """The mean norm of activations `[N, d]`, or of each hook of `[N, hooks, d]`."""

    def __init__(self, what: str) -> None:
        self.what, self.total, self.count, self.d = what, torch.zeros((), dtype=torch.float64), 0, 0

    def add(self, x: Tensor) -> None:
        """Add rows."""
        self.total = self.total + x.float().norm(dim=-1).cpu().double().sum(0)
        self.count, self.d = self.count + len(x), x.shape[-1]

    def factor(self) -> Factor:
        """√d over the mean."""
        mean = self.total / max(1, self.count)
        if not bool(((mean > 0) & mean.isfinite()).all()):
            raise NumericsError(
                f"sae.normalizer: the mean norm of {self.count} {self.what} is {mean.tolist()}; "
                "expected a positive number; check the hook and the model's dtype"
            )
        factor = self.d**0.5 / mean
        return factor if factor.dim() else float(factor)


def _joined(factor: Factor, size: int, sae: SAE) -> Factor:
    """One factor, or a factor for each of the `size` coordinates of all hooks."""
    if isinstance(factor, Tensor):
        return factor.repeat_interleave(size // len(factor)).to(sae.W_dec.device)
    return factor


def _scaled(x: Tensor, factor: Factor) -> Tensor:
    if isinstance(factor, Tensor):
        return x * factor[:, None].to(x)
    return x * factor
