"""Adam with moments in 8 bits (Dettmers et al. 2022, arXiv 2110.02861), by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.errors import PluginError
from saecore.hookspecs import hookimpl
from saecore_plugins.optimizers.adam import AdamConfig

if TYPE_CHECKING:
    import torch


@attrs.frozen
class Adam8bitConfig(AdamConfig):
    """Settings of Adam; tensors below 4096 elements keep moments of 32 bits."""


class Adam8bit:
    """bitsandbytes' Adam8bit.

    Args:
        config: settings.
        params: parameters or groups.
        lr: learning rate.

    Raises:
        PluginError: bitsandbytes is not installed.
    """

    def __init__(self, config: Adam8bitConfig, params: Iterable[Any], lr: float) -> None:
        try:
            from bitsandbytes.optim import Adam8bit as Optimizer
        except ImportError as error:
            raise PluginError(
                f"training.optimizer: adam8bit needs bitsandbytes ({error}); "
                'run "pip install bitsandbytes", or use type = "adam"'
            ) from error
        self._adam: torch.optim.Optimizer = Optimizer(
            list(params),
            lr=lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
        )
        self.step, self.zero_grad = self._adam.step, self._adam.zero_grad
        self.state_dict, self.load_state_dict = self._adam.state_dict, self._adam.load_state_dict

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups."""
        return self._adam.param_groups

    @property
    def state(self) -> Mapping[torch.Tensor, Any]:
        """The state of every parameter."""
        return self._adam.state

    def reset_rows(self, parameter: torch.Tensor, latents: torch.Tensor) -> None:
        """Zero the moments of some rows; in 8 bits, by the code that stands for 0."""
        state = self._adam.state.get(parameter, {})
        for number in ("1", "2"):
            if f"state{number}" in state:
                codes = state.get(f"qmap{number}")  # [256], or none where it has 32 bits
                zero = 0 if codes is None else int(codes.abs().argmin())
                state[f"state{number}"][latents] = zero


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the optimizer."""
    yield Component(
        kind="optimizer",
        name="adam8bit",
        config=Adam8bitConfig,
        build=Adam8bit,
        summary="Adam with moments in 8 bits; needs bitsandbytes",
    )
