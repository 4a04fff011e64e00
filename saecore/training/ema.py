"""Exponential moving average of an SAE's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Bias-corrected exponential average of a module's parameters (buffers are not averaged).

    avg_t = Σ dᵗ⁻ⁱ w_i / Σ dᵗ⁻ⁱ over the steps i = 1 … t: the correction of Adam (arXiv 1412.6980,
    section 3) is applied in every update, so the stored values are the average itself.

    Args:
        module: the SAE.
        decay: d, below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.updates = 0
        self.average = {name: _wide(weight).clone() for name, weight in module.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average."""
        self.updates += 1
        share = (1 - self.decay) / (1 - self.decay**self.updates)
        for name, weight in self.module.named_parameters():
            self.average[name].lerp_(_wide(weight), share)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within this context the module's parameters hold the average."""
        weights = dict(self.module.named_parameters())
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        try:
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(self.average[name])
            yield
        finally:
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(before[name])

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates."""
        return {"updates": self.updates, "average": dict(self.average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load an average."""
        self.updates = int(state["updates"])
        for name, weight in self.average.items():
            weight.copy_(state["average"][name])


def _wide(weight: Tensor) -> Tensor:
    """Convert to at least float32: half precision would lose small updates."""
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
