"""The skip transcoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saecore.core.sae_config import Shape
from saecore_plugins.architectures.transcoder.sae import Transcoder


class SkipTranscoder(Transcoder):
    """ŷ = f W_dec + b_dec + x W_skipᵀ, with W_skip zero at the start. Source: Paulo et al. 2025.

    `decode` leaves out the linear part; `forward` adds it.
    """

    architecture = "skip_transcoder"
    W_skip: nn.Parameter

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Add the linear map `[d_out, d_in]`."""
        return {**super().parameter_sizes(shape), "W_skip": (shape.d_out, shape.d_in)}

    def skip_term(self, x: Tensor) -> Tensor:
        """The linear part of reconstructions of `x [N, d_in]`: `[N, d_out]`."""
        return x @ self.W_skip.t()

    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Also fold the factors into the linear map."""
        super().scale_input(factor, out)
        with torch.no_grad():
            self.W_skip.mul_(factor)
            self.W_skip.t().div_(factor if out is None else out)
