"""What the configs of architectures have in common; free of torch, as every config."""

from __future__ import annotations

import attrs


@attrs.frozen
class ArchitectureConfig:
    """Base of architecture configs."""

    apply_b_dec_to_input: bool = attrs.field(default=True, kw_only=True)
    """Subtract the decoder bias from the input."""
