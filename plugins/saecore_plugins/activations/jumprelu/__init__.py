"""JumpReLU: pre-activations above a learned threshold of each latent (arXiv 2407.14435)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from saecore.plugins import Choice, Component, above, at_least, choice, hookimpl


@attrs.frozen
class JumpReLUConfig:
    """Settings of JumpReLU."""

    l0_coefficient: float = attrs.field(default=1.0, validator=at_least(0), kw_only=True)
    """Weight of the sparsity penalty."""
    l0_schedule: Choice = choice("schedule", "constant")
    """How the weight changes over the run, e.g. a warm-up."""
    jumprelu_sparsity_loss_mode: Literal["step", "tanh", "quadratic"] = "step"
    """The penalty of a token: its L0 ("step"), Σ tanh(c · f · n) with n the norms of the decoder
    rows ("tanh", Anthropic), or (2 / T)(L0 − T)² ("quadratic", Gemma Scope 2)."""
    target_l0: float | None = attrs.field(default=None, validator=above(0))
    """T of the quadratic penalty."""
    jumprelu_tanh_scale: float = attrs.field(default=4.0, validator=above(0))
    """c of the tanh penalty."""
    jumprelu_bandwidth: float = attrs.field(default=0.05, validator=above(0))
    """Width of the band around the threshold in which straight-through gradients flow."""
    jumprelu_init_threshold: float = attrs.field(default=0.01, validator=at_least(0))
    """Initial threshold of every latent."""
    jumprelu_ste_to_input: bool = False
    """Let the straight-through gradient reach the pre-activations too, as Anthropic does."""
    pre_act_loss_coefficient: float | None = attrs.field(default=None, validator=at_least(0))
    """Weight of Σ relu(θ − pre) · n over dead latents, which revives them (Anthropic: 3e-6)."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing target."""
        if self.jumprelu_sparsity_loss_mode == "quadratic" and self.target_l0 is None:
            yield "target_l0", 'expected a number with jumprelu_sparsity_loss_mode = "quadratic"'


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="activation",
        name="jumprelu",
        config=JumpReLUConfig,
        build="saecore_plugins.activations.jumprelu.activation:JumpReLU",
        summary="pre-activations above a learned threshold of each latent",
    )
