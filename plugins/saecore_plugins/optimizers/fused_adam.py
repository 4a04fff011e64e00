"""Adam over torch's fused kernel, without the classes of torch.optim.

Those import torch's compiler on first use, which costs 140 MiB of memory and more than a second
for nothing here. State and state_dict have the same layout, so each reads the other's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


class FusedAdam:
    """m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², p ← p − lr m̂ / (√v̂ + ε), hats corrected for bias.

    Parameters, gradients and moments must have the same strides, because the CPU kernel ignores
    strides.

    Args:
        parameters: parameters, or groups of them with individual settings.
        lr: learning rate.
        betas: decay rates of the averages of the gradient and its square.
        eps: added to the square root of the second average.
        weight_decay: weight of an L2 penalty.
    """

    _step_supports_amp_scaling = True  # torch's flag that `optimizer_steps.scales_itself` reads

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
        members = list(parameters)
        groups = members if members and isinstance(members[0], dict) else [{"params": members}]
        self.param_groups: list[dict[str, Any]] = [
            {**self.defaults, **group, "params": list(group["params"])} for group in groups
        ]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self.grad_scale: Tensor | None = None
        """Divisor of the gradients, applied as they are read."""
        self.found_inf: Tensor | None = None
        """1.0 to skip a step."""

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            dtypes = dict.fromkeys(parameter.dtype for parameter in moved)
            for dtype in dtypes:  # the kernel handles one at a time
                same = [parameter for parameter in moved if parameter.dtype == dtype]
                self._move(same, group)

    def _move(self, parameters: list[Tensor], group: Mapping[str, Any]) -> None:
        moments = [self._state(parameter) for parameter in parameters]
        steps = [moment["step"] for moment in moments]
        beta1, beta2 = group["betas"]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [moment["exp_avg"] for moment in moments],
            [moment["exp_avg_sq"] for moment in moments],
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
        if self.found_inf is not None:  # a skipped step does not count
            torch._foreach_sub_(steps, [self.found_inf] * len(steps))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, or fill them with zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Moments and settings; parameters are numbered in group order."""
        numbers = {parameter: i for i, parameter in enumerate(self._parameters())}
        groups = [
            {**group, "params": [numbers[parameter] for parameter in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": {numbers[key]: dict(s) for key, s in self.state.items()},
                "param_groups": groups}  # fmt: skip

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            ValueError: the numbers of groups or parameters differ.
        """
        saved = state_dict["param_groups"]
        if [len(g["params"]) for g in saved] != [len(g["params"]) for g in self.param_groups]:
            raise ValueError("the state belongs to other parameter groups")
        parameters = self._parameters()
        self.state.clear()
        for number, moments in state_dict["state"].items():
            parameter = parameters[number]
            self.state[parameter] = {
                name: (value if name == "step" else value.to(parameter.dtype))
                .to(parameter.device)
                .clone()
                for name, value in moments.items()
            }
        for group, settings in zip(self.param_groups, saved, strict=True):
            group.update({key: value for key, value in settings.items() if key != "params"})

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state
