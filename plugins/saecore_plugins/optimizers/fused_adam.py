"""Adam over torch's fused kernel, without the classes of torch.optim.

Those import torch's compiler when they are first used: 140 MiB of memory and more than a second,
for nothing here. State and state_dict are laid out as theirs, so that either reads the other's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


class FusedAdam:
    """m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², p ← p − lr m̂ / (√v̂ + ε), hats corrected for bias.

    Parameters, gradients and moments must have the same strides: the kernel on the CPU does not
    look at them.

    Args:
        parameters: parameters, or groups of them with settings of their own.
        lr: learning rate.
        betas: decay of the averages of the gradient and of its square.
        eps: added to the root of the second average.
        weight_decay: weight of an L2 penalty.
    """

    _step_supports_amp_scaling = True  # torch's name for what `optimizer.scales_itself` asks

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        self.defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                         "fused": True}  # fmt: skip  # for torch's class, should it read the state
        given = list(parameters)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [
            {**self.defaults, **one, "params": list(one["params"])} for one in groups
        ]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self.grad_scale: Tensor | None = None
        """What gradients are divided by as they are read."""
        self.found_inf: Tensor | None = None
        """1.0 where a step must change nothing."""

    @torch.no_grad()
    def step(self) -> None:
        """One step over every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [one for one in group["params"] if one.grad is not None]
            for dtype in {one.dtype: None for one in moved}:  # the kernel takes one at a time
                self._move([one for one in moved if one.dtype == dtype], group)

    def _move(self, parameters: list[Tensor], group: Mapping[str, Any]) -> None:
        state = [self._state(one) for one in parameters]
        steps = [one["step"] for one in state]
        beta1, beta2 = group["betas"]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            parameters,
            [one.grad for one in parameters if one.grad is not None],
            [one["exp_avg"] for one in state],
            [one["exp_avg_sq"] for one in state],
            [],
            steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=self.grad_scale,
            found_inf=self.found_inf,
        )
        if self.found_inf is not None:  # a step that was left out does not count
            torch._foreach_sub_(steps, [self.found_inf] * len(steps))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, or fill them with zeros."""
        for group in self.param_groups:
            for one in group["params"]:
                if set_to_none:
                    one.grad = None
                elif one.grad is not None:
                    one.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Moments and settings; parameters are numbered in the order of the groups."""
        numbers = {one: i for i, one in enumerate(self._parameters())}
        groups = [
            {**group, "params": [numbers[one] for one in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": {numbers[one]: dict(s) for one, s in self.state.items()},
                "param_groups": groups}  # fmt: skip

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            ValueError: groups or parameters are not as many.
        """
        saved = state_dict["param_groups"]
        if [len(one["params"]) for one in saved] != [len(g["params"]) for g in self.param_groups]:
            raise ValueError("the state belongs to other parameter groups")
        parameters = self._parameters()
        self.state.clear()
        for number, found in state_dict["state"].items():
            parameter = parameters[number]
            self.state[parameter] = {
                name: (value if name == "step" else value.to(parameter.dtype))
                .to(parameter.device)
                .clone()
                for name, value in found.items()
            }
        for group, one in zip(self.param_groups, saved, strict=True):
            group.update({key: value for key, value in one.items() if key != "params"})

    def _parameters(self) -> list[Tensor]:
        return [one for group in self.param_groups for one in group["params"]]

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state
