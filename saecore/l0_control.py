"""A controller that moves a sparsity coefficient until L0 is where it is wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class L0Control:
    """log m grows by `speed` times the relative error of L0 in every step; m scales λ.

    The error is (L0 − target) / target of a running mean of L0, cut to ±1, so that m changes by
    at most the factor e^speed a step; m stays between 1/LIMIT and LIMIT, so that an L0 that does
    not answer cannot drive it away. Everything stays on the device.

    Args:
        target: wanted mean number of active latents per token.
        speed: growth of log m a step, per unit of relative error.
        device: where the numbers live.
    """

    MEMORY = 0.9
    """Weight of the past in the running mean."""
    LIMIT = 100.0
    """Largest factor on the coefficient."""

    def __init__(self, target: float, speed: float, device: torch.device) -> None:
        self.target, self.speed = target, speed
        self.log_multiplier = torch.zeros((), device=device)
        self.l0 = torch.full((), target, device=device)

    @property
    def multiplier(self) -> Tensor:
        """What the coefficient is multiplied by."""
        return self.log_multiplier.exp()

    def update(self, l0: Tensor) -> None:
        """Learn the L0 of a step, a scalar on the device."""
        self.l0.lerp_(l0.to(self.l0.dtype), 1 - self.MEMORY)
        error = ((self.l0 - self.target) / self.target).clamp(-1, 1)
        self.log_multiplier += self.speed * error
        self.log_multiplier.clamp_(-math.log(self.LIMIT), math.log(self.LIMIT))

    def state_dict(self) -> dict[str, Any]:
        """Both numbers."""
        return {"log_multiplier": self.log_multiplier, "l0": self.l0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over both numbers."""
        self.log_multiplier.copy_(state["log_multiplier"])
        self.l0.copy_(state["l0"])
