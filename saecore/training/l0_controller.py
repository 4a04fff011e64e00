"""Adjust a sparsity coefficient until L0 reaches its target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class L0Controller:
    """Scales λ by a multiplier m: each step adds `speed` times the relative error of L0 to log m.

    The error is (L0 − target) / target for a running mean of L0, clipped to ±1, so m changes by
    at most a factor e^speed per step. m stays between 1/LIMIT and LIMIT, so an L0 that does not
    respond cannot make it diverge. All values stay on the device.

    Args:
        target: target mean number of active latents per token.
        speed: growth of log m per step and unit of relative error.
        device: device of the values.
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
        """The factor of the coefficient."""
        return self.log_multiplier.exp()

    def update(self, l0: Tensor) -> None:
        """Update with the L0 of a step, a scalar on the device."""
        self.l0.lerp_(l0.to(self.l0.dtype), 1 - self.MEMORY)
        error = ((self.l0 - self.target) / self.target).clamp(-1, 1)
        self.log_multiplier += self.speed * error
        self.log_multiplier.clamp_(-math.log(self.LIMIT), math.log(self.LIMIT))

    def state_dict(self) -> dict[str, Any]:
        """The multiplier and the running mean."""
        return {"log_multiplier": self.log_multiplier, "l0": self.l0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the multiplier and the running mean."""
        self.log_multiplier.copy_(state["log_multiplier"])
        self.l0.copy_(state["l0"])
