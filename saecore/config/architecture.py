"""What the configs of architectures have in common; free of torch, as every config."""

from __future__ import annotations

import attrs


@attrs.frozen(slots=False)  # so that it can be a base beside an activation's config
class ArchitectureConfig:
    """Base of architecture configs."""

    apply_b_dec_to_input: bool = attrs.field(default=True, kw_only=True)
    """Subtract the decoder bias from the input."""


@attrs.frozen(slots=False)  # so that it can be a base beside an activation's config
class RescaledConfig(ArchitectureConfig):
    """Base of the configs of architectures whose latents compete."""

    rescale_acts_by_decoder_norm: bool = attrs.field(default=True, kw_only=True)
    """Rank and report features times the norm of their decoder row."""
