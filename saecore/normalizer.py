"""What normalizers have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from torch import Tensor

from saecore.normalize import RUNTIME, Restore
from saecore.sae import SAE
from saecore.step import Batch


class NormalizerStrategy:
    """A `Normalizer` that leaves activations as they are."""

    tokens = 0

    def __init__(self, config: Any) -> None:
        self.config = config

    def check(self, sae: SAE) -> None:
        """Every SAE will do."""

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Nothing to estimate."""

    def apply(self, batch: Batch) -> Batch:
        """The batch itself."""
        return batch

    def restorer(self, batch: Batch) -> Restore | None:
        """The loss is taken where the SAE works."""
        return None

    def fold(self, sae: SAE) -> None:
        """Nothing to fold."""

    def unfold(self, sae: SAE) -> None:
        """Nothing to take out again."""

    def state_dict(self) -> dict[str, Any]:
        """No state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """No state."""


class RuntimeNormalizer(NormalizerStrategy):
    """A normalization of each token by itself: part of the forward pass of the saved SAE.

    The loss is taken on raw activations, as in SAELens 6.

    Args:
        config: the component's settings.
        name: one of `saecore.normalize.RUNTIME`.
    """

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config)
        self.name = name

    def _scale(self, x: Tensor) -> Tensor:
        return RUNTIME[self.name](x)[0]

    def apply(self, batch: Batch) -> Batch:
        """Scale every token."""
        return batch.map(self._scale)

    def restorer(self, batch: Batch) -> Restore:
        """The way back, token by token."""
        return RUNTIME[self.name](batch.targets)[1]

    def fold(self, sae: SAE) -> None:
        """Make the normalization part of the SAE."""
        sae.cfg = attrs.evolve(sae.cfg, normalize_activations=self.name)
