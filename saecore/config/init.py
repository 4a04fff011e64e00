"""How the weights of an experiment begin."""

from __future__ import annotations

from typing import Literal

import attrs

from saecore.config.validators import above, at_least


@attrs.frozen
class InitTable:
    """How the weights begin."""

    type: Literal["tied", "independent", "search"] = "tied"
    """Decoder rows in random directions and the encoder their transpose ("tied"), or with random
    directions of its own ("independent"); "search" is tied, at the norm with the smallest
    reconstruction loss."""
    decoder_norm: float = attrs.field(default=0.1, validator=above(0))
    """Norm of every decoder row at the start; a search looks from a hundredth to fifty times it."""
    b_dec: Literal["zero", "mean", "geometric_median"] = "zero"
    """Where the decoder bias begins: at 0, or at the mean or the geometric median of the
    activations that are reconstructed."""
    tokens: int = attrs.field(default=32_768, validator=at_least(1))
    """Tokens at the beginning of the stream from which bias and norm are found."""

    @property
    def needs_data(self) -> bool:
        """Whether activations are needed for it."""
        return self.type == "search" or self.b_dec != "zero"
