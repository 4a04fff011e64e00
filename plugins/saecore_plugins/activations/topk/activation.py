"""The TopK activation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from saecore.core.activation import Activation, PreActivations
from saecore.core.sae_config import Shape, check_width
from saecore.core.schedule import Scheduled
from saecore.core.step import StepContext
from saecore.ops.codes import Codes


class TopK(Activation):
    """The k largest of each token; negative ones among them become explicit zeros."""

    competitive = True

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__()
        check_width(config.k, shape.d_sae)
        self.k, self.d_sae = config.k, shape.d_sae
        self._scheduled = {"k": Scheduled(config.k, config.k_schedule.build())}

    def select(self, encoding: PreActivations) -> Codes:
        """The k best of each row."""
        return self._chosen(encoding, self.k)

    def train_select(
        self, encoding: PreActivations, context: StepContext
    ) -> tuple[Codes, dict[str, Tensor]]:
        """The k of this step."""
        return self._chosen(encoding, width(context.scheduled["k"], self.d_sae)), {}

    def _chosen(self, encoding: PreActivations, k: int) -> Codes:
        codes = encoding.topk(k)
        return codes.with_values(codes.values.relu())

    def scheduled(self) -> Mapping[str, Scheduled]:
        """The value of k."""
        return self._scheduled


def width(k: float | Tensor, d_sae: int) -> int:
    """A scheduled k as a number of latents."""
    return min(d_sae, max(1, round(float(k))))
