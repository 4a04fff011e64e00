"""Parameter groups, gradient norms, clipped steps and resets of optimizer state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saecore.core.optimizer import Optimizer
from saecore.errors import ConfigError, PluginError


def parameter_groups(
    module: nn.Module, lr: float, factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Group the parameters of an SAE by learning rate.

    A group has `params`, `lr` and `lr_factor`; the trainer sets `lr` in every step.

    Args:
        module: the SAE.
        lr: learning rate before factors.
        factors: learning-rate factors by parameter name, as in saved files (W_enc, b_enc, …).

    Raises:
        ConfigError: a factor names no parameter.
    """
    named = {
        "W_enc" if name == "encoder" else name: parameter
        for name, parameter in module.named_parameters()
    }
    unknown = sorted(set(factors) - set(named))
    if unknown:
        known = ", ".join(sorted(named))
        raise ConfigError(
            [f"training.lr_factors.{name}: this SAE has no such parameter (known: {known})"
             for name in unknown],
        )  # fmt: skip
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault(factors.get(name, 1.0), []).append(parameter)
    return [
        {"params": params, "lr": lr * factor, "lr_factor": factor}
        for factor, params in groups.items()
    ]


def scales_itself(optimizer: Optimizer) -> bool:
    """Whether an optimizer scales gradients as it reads them and can skip a step on the device.

    This is torch's contract with its `GradScaler`, which its fused optimizers implement.
    """
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all gradients together, a float64 scalar; makes the gradients contiguous."""
    squares = []
    for parameter in parameters:
        if parameter.grad is not None:
            # Fused optimizers silently compute wrong updates from strided gradients.
            parameter.grad = parameter.grad.contiguous()
            # Row norms first: one float32 norm over millions of elements loses 3 digits.
            squares.append(parameter.grad.norm(dim=-1).double().square().sum())
    return torch.stack(squares).sum().sqrt()


@torch.no_grad()
def clipped_step(
    optimizer: Optimizer,
    parameters: Iterable[Tensor],
    factor: Tensor | None,
    skip: Tensor | None = None,
) -> None:
    """Take a step with all gradients times `factor`.

    Args:
        optimizer: the optimizer.
        parameters: the parameters whose gradients are scaled.
        factor: a scalar on their device; None means 1.
        skip: a scalar on their device: 1.0 to leave the weights unchanged, else 0.0. Only for
            optimizers that pass `scales_itself`.
    """
    if scales_itself(optimizer):
        # float32: torch's fused kernel silently misreads any other dtype.
        optimizer.grad_scale = None if factor is None else factor.reciprocal().float()  # type: ignore[attr-defined]
        optimizer.found_inf = skip  # type: ignore[attr-defined]
    elif factor is not None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor.to(parameter.grad.dtype))
    optimizer.step()


def reset_rows(optimizer: Optimizer, parameter: Tensor, latents: Tensor) -> None:
    """Reset the optimizer's state for rows of a parameter that have new values.

    Zeroes these rows in every state tensor of the parameter's shape, which is right for moments.
    Calls the optimizer's `reset_rows(parameter, latents)` instead, if it has one. Step counts are
    kept, because all rows share them.

    Args:
        optimizer: a torch optimizer, or another with the same `state`.
        parameter: one of its parameters; the first dimension is that of the latents.
        latents: indices of the rows, int64.

    Raises:
        PluginError: a state tensor is quantized, so zeroing it does not reset it.
    """
    reset = getattr(optimizer, "reset_rows", None)
    if reset is not None:
        reset(parameter, latents)
        return
    state = getattr(optimizer, "state", {})
    for name, value in state.get(parameter, {}).items():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            if not value.is_floating_point():
                raise PluginError(
                    f"optimizer {type(optimizer).__name__}: cannot reset rows of its state "
                    f"{name!r} ({value.dtype}); it needs a method reset_rows(parameter, latents)"
                )
            with torch.no_grad():
                value[latents] = 0
