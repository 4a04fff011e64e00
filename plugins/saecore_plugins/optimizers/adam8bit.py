"""Adam with moments in 8 bits (Dettmers et al. 2022, arXiv 2110.02861), by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from saecore.errors import PluginError
from saecore.plugins import Component, hookimpl
from saecore_plugins.optimizers.adam import AdamConfig

if TYPE_CHECKING:
    import torch


class Adam8bit:
    """bitsandbytes' Adam8bit.

    Args:
        config: settings.
        params: parameters or groups.
        lr: learning rate.

    Raises:
        PluginError: bitsandbytes is not installed.
    """

    def __init__(self, config: AdamConfig, params: Iterable[Any], lr: float) -> None:
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
        """Zero the moments of some rows; 8-bit moments are set to the code for 0."""
        state = self._adam.state.get(parameter, {})
        for number in ("1", "2"):
            if f"state{number}" in state:
                codes = state.get(f"qmap{number}")  # [256], or None for 32-bit moments
                zero = 0 if codes is None else int(codes.abs().argmin())
                state[f"state{number}"][latents] = zero


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="optimizer",
        name="adam8bit",
        config=AdamConfig,
        build=Adam8bit,
        summary="Adam with moments in 8 bits; needs bitsandbytes",
    )
