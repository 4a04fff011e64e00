"""The operations that every sparse architecture is built on.

Shapes: N tokens; `x [N, d_in]`, `W_enc [d_in, d_sae]`, `b_enc [d_sae]`, `W_dec [d_sae, d_out]`,
`b_dec [d_out]`. Both matrices are fastest in latent-major layout, as in `SAE`: `W_enc` is the
transpose view of a contiguous `[d_sae, d_in]`.

Selection is exact. Ties go to the lowest latent; in a batch-wide selection to the lowest token,
then the lowest latent. No `[N, d_sae]` is ever stored: the work is done in row chunks of bounded
size. Gradients equal the dense ones but are computed from the entries alone. `center` is the
decoder bias if it is subtracted from the input; its gradient then takes a vector-matrix product
instead of a matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from saecore.ops import dense
from saecore.ops.autograd import Decode, Preactivations
from saecore.ops.codes import Codes
from saecore.ops.dense_codes import DenseCodes
from saecore.ops.dispatch import forced, function

__all__ = [
    "decode",
    "decode_prefixes",
    "differentiable",
    "forced",
    "preactivations",
    "select_above",
    "select_batch_topk",
    "select_group_max",
    "select_topk",
]


def select_topk(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    k: int,
    *,
    center: Tensor | None = None,
    scale: Tensor | None = None,
    by: Literal["value", "abs"] = "value",
) -> Codes:
    """Select the `k` latents of each row with the largest `pre * scale`; values are `pre`.

    Args:
        x: inputs `[N, d_in]`.
        W_enc: encoder `[d_in, d_sae]`.
        b_enc: encoder bias `[d_sae]`.
        k: entries per row; at most d_sae.
        center: subtracted from `x` `[d_in]`.
        scale: positive factors of the ranking `[d_sae]`.
        by: rank by value or by absolute value.
    """
    with torch.no_grad():
        values, pattern = function("select_topk", x, W_enc.t())(
            x, W_enc.t(), b_enc, k, center, scale, by == "abs"
        )
    return Codes(Preactivations.apply(values, pattern, x, W_enc, b_enc, center), pattern)  # type: ignore[no-untyped-call]


def select_batch_topk(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    n: int,
    *,
    center: Tensor | None = None,
    scale: Tensor | None = None,
) -> Codes:
    """Select the `n` entries of the whole batch with the largest `pre * scale`; values are `pre`.

    Arguments as in `select_topk`; `n` is at most N * d_sae.
    """
    with torch.no_grad():
        values, pattern = function("select_batch_topk", x, W_enc.t())(
            x, W_enc.t(), b_enc, n, center, scale
        )
    return Codes(Preactivations.apply(values, pattern, x, W_enc, b_enc, center), pattern)  # type: ignore[no-untyped-call]


def select_above(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    threshold: float | Tensor,
    *,
    center: Tensor | None = None,
) -> Codes:
    """Select every entry with `pre > threshold`, a number or `[d_sae]`; values are `pre`.

    In training the codes are `DenseCodes` while a large share of all cells is above it.
    """
    trained = torch.is_grad_enabled() and W_enc.requires_grad
    if trained and dense.is_faster(x, W_enc.t(), b_enc, threshold, center):
        return DenseCodes(*dense.Above.apply(x, W_enc, b_enc, center, threshold))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        values, pattern = function("select_above", x, W_enc.t())(
            x, W_enc.t(), b_enc, threshold, center
        )
    return Codes(Preactivations.apply(values, pattern, x, W_enc, b_enc, center), pattern)  # type: ignore[no-untyped-call]


def select_group_max(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    groups: int,
    *,
    center: Tensor | None = None,
) -> Codes:
    """Select the largest entry of each row in each of `groups` equal blocks of latents.

    Values are `pre`. Arguments as in `select_topk`; `groups` divides d_sae.
    """
    with torch.no_grad():
        values, pattern = function("select_group_max", x, W_enc.t())(
            x, W_enc.t(), b_enc, groups, center
        )
    return Codes(Preactivations.apply(values, pattern, x, W_enc, b_enc, center), pattern)  # type: ignore[no-untyped-call]


def preactivations(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    latents: Tensor,
    *,
    center: Tensor | None = None,
) -> Tensor:
    """Pre-activations of some latents `[n]`, dense `[N, n]`; plain autograd."""
    encoder = W_enc.t().index_select(0, latents)  # [n, d_in]
    centered = x if center is None else x - center
    return torch.nn.functional.linear(centered, encoder, b_enc[latents]).to(x.dtype)


def differentiable(codes: Codes, x: Tensor, W_enc: Tensor, b_enc: Tensor) -> Codes:
    """Attach gradients to codes whose values are pre-activations of these inputs.

    Use it to choose among several selections: entries that are not chosen cost no backward pass.
    """
    values = Preactivations.apply(codes.values, codes.pattern, x, W_enc, b_enc, None)  # type: ignore[no-untyped-call]
    return codes.with_values(values)


def decode(codes: Codes, W_dec: Tensor, b_dec: Tensor | None) -> Tensor:
    """`codes @ W_dec + b_dec` `[N, d_out]`; without a bias if it is None."""
    if isinstance(codes, DenseCodes):
        product = codes.values.to(W_dec.dtype) @ W_dec
        return product if b_dec is None else product + b_dec
    decoded: Tensor = Decode.apply(codes.values.to(W_dec.dtype), codes.pattern, W_dec)  # type: ignore[no-untyped-call]
    return decoded if b_dec is None else decoded + b_dec


def decode_prefixes(codes: Codes, W_dec: Tensor, b_dec: Tensor, widths: Sequence[int]) -> Tensor:
    """Reconstructions from the first `w` latents, for each of `widths`: `[len(widths), N, d_out]`.

    Args:
        codes: `[N, d_sae]`.
        W_dec: decoder `[d_sae, d_out]`.
        b_dec: decoder bias `[d_out]`.
        widths: increasing numbers of latents.
    """
    parts, low = [], 0
    for high in widths:
        inside = (codes.indices >= low) & (codes.indices < high)
        parts.append(decode(codes.where(inside), W_dec, None))
        low = high
    return torch.stack(parts).cumsum(0) + b_dec
