"""The factors that bring mean norms to √d."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor

from saecore.errors import NumericsError
from saecore.normalizer import NormalizerStrategy
from saecore.sae import SAE
from saecore.step import Batch

if TYPE_CHECKING:
    from saecore_plugins.normalizers.expected_average_only_in import ExpectedAverageConfig

Factor = float | Tensor
"""A number, or one for each of several hooks `[hooks]`, float64."""


class ExpectedAverage(NormalizerStrategy):
    """Multiplies by s = √d / mean ‖x‖ (Anthropic, April 2024; the name is SAELens').

    Inputs from several hooks have a factor each, and so have targets of another hook.
    """

    def __init__(self, config: ExpectedAverageConfig) -> None:
        super().__init__(config)
        self.tokens = config.tokens
        self.factor: Factor = 1.0
        self.target_factor: Factor | None = None
        """Where targets are of another hook than the inputs."""

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Take the mean norms of inputs and, where they are others, of targets.

        Raises:
            NumericsError: one is zero or not finite.
        """
        read, wanted = _MeanNorm("inputs"), _MeanNorm("targets")
        for batch in batches:
            read.add(batch.inputs)
            if batch.targets is not batch.inputs:
                wanted.add(batch.targets)
        self.factor = read.factor()
        self.target_factor = wanted.factor() if wanted.count else None

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
        """Move the factors into the weights."""
        factor = _joined(self.factor, sae.cfg.d_in, sae)
        out = (
            None if self.target_factor is None else _joined(self.target_factor, sae.cfg.d_out, sae)
        )
        sae.scale_input(factor, out)

    def unfold(self, sae: SAE) -> None:
        """Take the factors out of weights that were made for raw activations."""
        factor = 1 / _joined(self.factor, sae.cfg.d_in, sae)
        out = (
            None if self.target_factor is None else _joined(self.target_factor, sae.cfg.d_out, sae)
        )
        sae.scale_input(factor, None if out is None else 1 / out)

    def state_dict(self) -> dict[str, Any]:
        """The factors."""
        return {"factor": self.factor, "target_factor": self.target_factor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the factors."""
        self.factor = state["factor"]
        self.target_factor = state["target_factor"]


class _MeanNorm:
    """The mean norm of activations `[N, d]`, or those of hooks `[N, hooks, d]`."""

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
    """A number, or one for each of the `size` numbers of all hooks together."""
    if isinstance(factor, Tensor):
        return factor.repeat_interleave(size // len(factor)).to(sae.W_dec.device)
    return factor


def _scaled(x: Tensor, factor: Factor) -> Tensor:
    if isinstance(factor, Tensor):
        return x * factor[:, None].to(x)
    return x * factor
