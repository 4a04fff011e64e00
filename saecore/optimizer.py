"""What is done to optimizers besides stepping: groups with factors, rows started afresh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saecore.errors import ConfigError, PluginError
from saecore.step import Optimizer


def parameter_groups(
    module: nn.Module, lr: float, factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The parameters of an SAE in groups of one learning rate.

    A group has `params`, `lr` and `lr_factor`; the trainer sets `lr` in every step.

    Args:
        module: the SAE.
        lr: learning rate before factors.
        factors: of some parameters, by their names in saved files (W_enc, b_enc, W_dec, …).

    Raises:
        ConfigError: there is no parameter of such a name.
    """
    named = {"W_enc" if k == "encoder" else k: one for k, one in module.named_parameters()}
    unknown = sorted(set(factors) - set(named))
    if unknown:
        known = ", ".join(sorted(named))
        raise ConfigError(
            "experiment",
            [f"training.lr_factors.{one}: this SAE has no such parameter (known: {known})"
             for one in unknown],
        )  # fmt: skip
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault(factors.get(name, 1.0), []).append(parameter)
    return [
        {"params": params, "lr": lr * factor, "lr_factor": factor}
        for factor, params in groups.items()
    ]


def scales_itself(optimizer: Optimizer) -> bool:
    """Whether an optimizer multiplies gradients as it reads them, and leaves a step out when a
    number on its device says so: torch's contract with its `GradScaler`, which fused ones keep.
    """
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


@torch.no_grad()
def take_step(
    optimizer: Optimizer,
    parameters: Iterable[Tensor],
    factor: Tensor | None,
    leave_out: Tensor | None = None,
) -> None:
    """Step with all gradients times `factor`.

    Args:
        optimizer: what steps.
        parameters: those whose gradients are scaled.
        factor: a scalar on their device; None for 1.
        leave_out: 1.0 where nothing may change, else 0.0: a scalar on their device, for
            optimizers of which `scales_itself` is true.
    """
    if scales_itself(optimizer):
        # As float32: torch's kernel reads no other type, and without a word.
        optimizer.grad_scale = None if factor is None else factor.reciprocal().float()  # type: ignore[attr-defined]
        optimizer.found_inf = leave_out  # type: ignore[attr-defined]
    elif factor is not None:
        for one in parameters:
            if one.grad is not None:
                one.grad.mul_(factor.to(one.grad.dtype))
    optimizer.step()


def reset_rows(optimizer: Optimizer, parameter: Tensor, latents: Tensor) -> None:
    """Make an optimizer forget some rows of a parameter, after they were given new values.

    Every state tensor of the parameter's shape gets these rows zeroed, which fits moments. An
    optimizer whose state is something else has its own `reset_rows(parameter, latents)`, and that
    is called. Counts of steps stay, as they belong to all rows.

    Args:
        optimizer: one of torch's, or another with the same `state`.
        parameter: one of its parameters; its first dimension is that of the latents.
        latents: numbers of the rows, int64.

    Raises:
        PluginError: a state tensor is quantised, so that zeroing it is not forgetting.
    """
    own = getattr(optimizer, "reset_rows", None)
    if own is not None:
        own(parameter, latents)
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
