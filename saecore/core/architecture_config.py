"""Base classes of architecture configs; free of torch, as all configs are."""

from __future__ import annotations

import attrs

from saecore.plugins.component import Choice
from saecore.plugins.fields import above, at_least, choice


@attrs.frozen(slots=False)  # so that it can be a base beside an activation's config
class ArchitectureConfig:
    """Base of architecture configs."""

    apply_b_dec_to_input: bool = attrs.field(default=True, kw_only=True)
    """Subtract the decoder bias from the input."""


@attrs.frozen(slots=False)  # so that it can be a base beside an activation's config
class RescaledConfig(ArchitectureConfig):
    """Base of configs for architectures whose latents compete."""

    rescale_acts_by_decoder_norm: bool = attrs.field(default=True, kw_only=True)
    """Rank and report features times the norm of their decoder row."""


@attrs.frozen(slots=False, kw_only=True)
class PenalizedConfig:
    """Base of configs for architectures with a configurable activation."""

    activation: Choice = choice("activation", "relu")
    """Function from pre-activations to features."""
    l1_coefficient: float | None = attrs.field(default=None, validator=at_least(0))
    """Weight of the sparsity penalty; default: 1 with relu, 0 with an activation that limits L0
    itself."""
    l1_schedule: Choice = choice("schedule", "constant")
    """How the weight changes over the run, e.g. a warm-up."""
    lp_norm: float = attrs.field(default=1.0, validator=above(0))
    """p of the penalty ‖f · n‖_p of each token, with n the norms of the decoder rows."""
