"""The JumpReLU activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from saecore.core.activation import Activation, PreActivations
from saecore.core.sae_config import Shape
from saecore.core.schedule import Scheduled
from saecore.core.step import StepContext
from saecore.ops.codes import Codes
from saecore_plugins.activations.jumprelu.estimators import Jump, Step

if TYPE_CHECKING:
    from saecore_plugins.activations.jumprelu import JumpReLUConfig


class Threshold(Activation):
    """Features are the pre-activations above θ; θ `[d_sae]` is float32 in every precision.

    Args:
        theta: the thresholds `[d_sae]`.
    """

    latent_vectors = ("threshold",)
    threshold: nn.Parameter

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.threshold = nn.Parameter(theta)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Threshold:
        # Small steps of θ would be lost in bfloat16, so it changes devices but never precision.
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)  # type: ignore[no-any-return, no-untyped-call]

    def select(self, encoding: PreActivations) -> Codes:
        """The pre-activations above θ and 0."""
        return encoding.above(self.threshold.clamp(min=0))


class JumpReLU(Threshold):
    """JumpReLU in training: θ learns through straight-through estimators."""

    coefficient = "l0_coefficient"

    def __init__(self, config: JumpReLUConfig, shape: Shape) -> None:
        start = config.jumprelu_init_threshold
        super().__init__(torch.full((shape.d_sae,), start, device=shape.device))
        self.config = config
        self._scheduled = {
            "l0_coefficient": Scheduled(config.l0_coefficient, config.l0_schedule.build())
        }

    def train_select(
        self, encoding: PreActivations, context: StepContext
    ) -> tuple[Codes, dict[str, Tensor]]:
        """Features with explicit zeros in the band below θ, and the sparsity losses."""
        config = self.config
        estimate: tuple[Any, ...] = (config.jumprelu_bandwidth, config.jumprelu_ste_to_input)
        with torch.no_grad():
            self.threshold.clamp_(min=0)
            low = self.threshold - config.jumprelu_bandwidth / 2
        near = encoding.above(low)
        pre, theta = near.values, near.per_latent(self.threshold)
        codes = near.with_values(Jump.apply(pre, theta, *estimate).to(pre.dtype))  # type: ignore[no-untyped-call]
        norms = encoding.decoder_norms()
        if config.jumprelu_sparsity_loss_mode == "tanh":
            weighted = codes.values * codes.per_latent(norms)
            tokens = codes.sum_per_row(torch.tanh(config.jumprelu_tanh_scale * weighted))
        else:
            tokens = codes.sum_per_row(Step.apply(pre, theta, *estimate))  # type: ignore[no-untyped-call]
            if config.target_l0 is not None and config.jumprelu_sparsity_loss_mode == "quadratic":
                tokens = 2 / config.target_l0 * (tokens - config.target_l0).square()
        losses = {"l0_loss": context.scheduled["l0_coefficient"] * tokens.mean()}
        if config.pre_act_loss_coefficient is not None:
            losses["pre_act_loss"] = config.pre_act_loss_coefficient * self._below(
                encoding, context.dead.nonzero(as_tuple=True)[0], norms
            )
        return codes, losses

    def _below(self, encoding: PreActivations, dead: Tensor, norms: Tensor) -> Tensor:
        """Mean over tokens of Σ relu(θ − pre) · n over the `dead` latents `[n_dead]`."""
        missing = (self.threshold[dead] - encoding.preactivations(dead)).relu()
        return (missing * norms[dead]).sum(-1).mean()

    def scheduled(self) -> Mapping[str, Scheduled]:
        """The weight of the penalty."""
        return self._scheduled

    def to_inference(self, d_sae: int) -> Activation:
        """Only the thresholds."""
        return Threshold(self.threshold.detach().clone())
