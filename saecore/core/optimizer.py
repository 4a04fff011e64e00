"""The interface of optimizers."""

from __future__ import annotations

from typing import Any, Protocol


class Optimizer(Protocol):
    """Updates the weights; torch's optimizers satisfy this interface.

    An optimizer may have two more methods: `averaged()`, a context in which the parameters hold
    the weights to save (schedule-free optimizers train different ones), and
    `reset_rows(parameter, latents)`, which replaces
    `saecore.training.optimizer_steps.reset_rows`. The config of its component may have a class
    attribute `auto_lr`: `training.lr = "auto"` then means `auto_lr / sqrt(d_sae / 2^14)`.
    """

    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Update the parameters from their gradients."""
        ...

    def zero_grad(self) -> None:
        """Clear the gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state."""
        ...
