"""The sizes that determine the memory of a run."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class RunSizes:
    """Sizes that determine the memory of a training step."""

    d_in: int
    d_out: int
    d_sae: int
    weights: int
    """Bytes of the SAE's parameters."""
    rows: int
    """Tokens per forward and backward pass."""
    entries: int
    """Active latents per token at the start of training."""
    context_size: int
    vocab_size: int
