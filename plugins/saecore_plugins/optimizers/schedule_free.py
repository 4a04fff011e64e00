"""Schedule-free sign descent, the optimizer behind `signum`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from saecore_plugins.optimizers.signum import SignumConfig


class ScheduleFreeSign(torch.optim.Optimizer):
    """Sign updates of z, gradients at y = (1 − β) z + β x, x the weighted average of all z.

    z ← z − γ sign ∇f(y);  x ← (1 − c) x + c z with c = γ² / Σ γ² over the steps so far. This is
    Algorithm 1 of Defazio et al. 2024 (arXiv 2405.15682), with sign updates and the
    weights of its section on warm-up. The parameters hold y during training; x, the weights to use,
    is not stored but follows from y and z. See `averaged`.

    Args:
        config: settings; β is `momentum`.
        params: parameters or groups.
        lr: γ.
    """

    def __init__(self, config: SignumConfig, params: Iterable[Any], lr: float) -> None:
        self.momentum = config.momentum
        super().__init__(params, {"lr": lr, "weight_sum": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the parameters from their gradients."""
        beta = self.momentum
        for group in self.param_groups:
            lr = float(group["lr"])
            if not lr:
                continue  # nothing moves; the arithmetic below would round
            group["weight_sum"] += lr**2
            c = lr**2 / group["weight_sum"]
            for y in group["params"]:
                if y.grad is None:
                    continue
                state = self.state[y]
                if "z" not in state:
                    state["z"] = y.clone()
                z: Tensor = state["z"]
                # y' = (1 − β) z' + β ((1 − c) x + c z'), with β x = y − (1 − β) z.
                y.sub_(z, alpha=1 - beta).mul_(1 - c)
                z.sub_(y.grad.sign(), alpha=lr)
                y.add_(z, alpha=1 - beta * (1 - c))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within this context the parameters hold x, the weights to evaluate and to save."""
        moved = [
            (y, y.detach().clone(), self.state[y]["z"])
            for group in self.param_groups
            for y in group["params"]
            if "z" in self.state.get(y, {})
        ]
        with torch.no_grad():
            for y, _, z in moved:
                y.lerp_(z, 1 - 1 / self.momentum)  # x = z + (y − z) / β
        try:
            yield
        finally:
            with torch.no_grad():
                for y, before, _ in moved:
                    y.copy_(before)

    def reset_rows(self, parameter: Tensor, latents: Tensor) -> None:
        """Restart some rows from their current values: x = y = z."""
        if "z" in self.state.get(parameter, {}):
            with torch.no_grad():
                self.state[parameter]["z"][latents] = parameter[latents]
