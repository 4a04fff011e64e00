"""Attention over a context of codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saecore.core.sae_config import Shape


class ContextAttention(nn.Module):
    """Predicts the codes of each position from those before it.

    Keys and queries are narrow, values and output as wide as the codes.

    Args:
        shape: sizes, precision and device.
        heads: number of heads.
        bottleneck: d_sae / size of keys and queries.
    """

    def __init__(self, shape: Shape, heads: int, bottleneck: int) -> None:
        super().__init__()
        self.heads = heads

        def linear(d_out: int) -> nn.Linear:
            where = {"device": shape.device, "dtype": shape.dtype}
            return nn.utils.skip_init(nn.Linear, shape.d_sae, d_out, **where)  # type: ignore[no-any-return]

        narrow = shape.d_sae // bottleneck
        self.k_ctx, self.q_target = linear(narrow), linear(narrow)
        self.v_ctx, self.c_proj = linear(shape.d_sae), linear(shape.d_sae)

    def forward(self, context: Tensor, target: Tensor) -> Tensor:
        """Prediction `[B, T, d_sae]`.

        Args:
            context: codes shifted by one position `[B, T, d_sae]`.
            target: unshifted codes `[B, T, d_sae]`, for the queries.
        """
        queries, keys, values = (
            layer(codes).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, T, size]
            for layer, codes in (
                (self.q_target, target),
                (self.k_ctx, context),
                (self.v_ctx, context),
            )
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True
        )
        predicted: Tensor = self.c_proj(mixed.transpose(1, 2).flatten(2))
        return predicted
