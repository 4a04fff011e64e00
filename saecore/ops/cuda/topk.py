"""Exact top-k in one pass over memory, by maxima of blocks.

The k-th largest of the blocks' maxima is a lower bound t of the k-th largest value, since k blocks
have an entry of at least t. Entries above t are in blocks whose maximum is above t; if t
itself is the k-th value, ties go to the lowest latent, and each block whose maximum is t has such
an entry. So the k blocks with the largest maxima (ties to the lowest block) always contain all of
the top k, and only they are read again.

Values are compared as integers in the order of the floats, in which −0 is 0 and a NaN the largest.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

CANDIDATES = 8192
"""Maximum number of entries of the blocks that are read again; they stay in registers."""


def block_size(d_sae: int, k: int) -> int | None:
    """Entries per block, a balance between few candidates and few maxima.

    None if no size is worthwhile because k is too large a share of d_sae.
    """
    for size in (128, 64, 32):
        if triton.next_power_of_2(k) * size <= CANDIDATES and d_sae >= 4 * k * size:
            return size
    return None


def select(
    pre: Tensor, k: int, scale: Tensor | None, by_abs: bool, values: Tensor, indices: Tensor
) -> None:
    """Write the k entries of each row of `pre` with the largest `pre * scale`, by latent.

    Args:
        pre: pre-activations `[N, d_sae]`, rows contiguous; float32, float16 or bfloat16.
        k: entries per row; `block_size(d_sae, k)` is not None.
        scale: factors of the ranking `[d_sae]`.
        by_abs: rank by absolute value.
        values: `[N, k]`, written.
        indices: their latents `[N, k]`, int64, written.
    """
    n_rows, d_sae = pre.shape
    block = block_size(d_sae, k)
    assert block is not None
    n_blocks = triton.cdiv(d_sae, block)
    maxima = torch.empty(n_rows, n_blocks, dtype=torch.int32, device=pre.device)
    chosen = torch.empty(n_rows, k, dtype=torch.int32, device=pre.device)
    ranking: dict[str, Any] = {
        "HAS_SCALE": scale is not None,
        "BY_ABS": by_abs,
        # bfloat16 is the upper half of float32: the lower half need not be searched.
        "BITS": 16 if pre.dtype == torch.bfloat16 and scale is None else 32,
        "BLOCK": block,
    }
    factors = pre if scale is None else scale
    group = 16
    grid = (n_rows, triton.cdiv(n_blocks, group))
    _block_maxima[grid](
        pre, factors, maxima, d_sae, n_blocks, pre.stride(0), GROUP=group, **ranking
    )
    padded = triton.next_power_of_2(n_blocks)
    _largest_blocks[(n_rows,)](
        maxima, chosen, n_blocks, k, BITS=ranking["BITS"], PADDED=padded,
        num_warps=8 if padded > 2048 else 4,
    )  # fmt: skip
    candidates = triton.next_power_of_2(k) * block
    _largest_entries[(n_rows,)](
        pre, factors, chosen, values, indices, d_sae, k, pre.stride(0), CANDIDATES=candidates,
        num_warps=8 if candidates > 4096 else 4, **ranking,
    )  # fmt: skip


@triton.jit
def _keys(pre, factors, row, latents, inside, stride, HAS_SCALE, BY_ABS, BITS):  # type: ignore[no-untyped-def]
    """Sort keys: the rank's bits as an integer of BITS bits, in the same order."""
    rank = tl.load(pre + row * stride + latents, mask=inside, other=0.0).to(tl.float32)
    if HAS_SCALE:
        rank *= tl.load(factors + latents, mask=inside, other=0.0).to(tl.float32)
    if BY_ABS:
        rank = tl.abs(rank)
    rank = tl.where(rank == 0, 0.0, rank)
    bits = rank.to(tl.int32, bitcast=True)
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = tl.where(rank != rank, 0x7FFFFFFF, key) >> (32 - BITS)
    return tl.where(inside, key, _lowest(BITS))


@triton.jit
def _lowest(BITS):  # type: ignore[no-untyped-def]
    """Less than every key."""
    return tl.full((), -1, tl.int32) << (BITS - 1)


@triton.jit
def _kept(keys, k, BITS):  # type: ignore[no-untyped-def]
    """Which keys are the k largest, ties to the first: by counting, bit by bit."""
    kth = _lowest(BITS)
    kth = tl.where(tl.sum((keys >= 0).to(tl.int32), axis=0) >= k, 0, kth)
    for i in tl.static_range(BITS - 1):
        higher = kth + (1 << (BITS - 2 - i))
        kth = tl.where(tl.sum((keys >= higher).to(tl.int32), axis=0) >= k, higher, kth)
    larger, equal = keys > kth, keys == kth
    missing = k - tl.sum(larger.to(tl.int32), axis=0)
    return larger | (equal & (tl.cumsum(equal.to(tl.int32), axis=0) <= missing))


@triton.jit
def _block_maxima(  # type: ignore[no-untyped-def]
    pre, factors, maxima, d_sae, n_blocks, stride,
    HAS_SCALE: tl.constexpr, BY_ABS: tl.constexpr, BITS: tl.constexpr,
    BLOCK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """The largest key of each block: GROUP blocks of one row."""
    row = tl.program_id(0).to(tl.int64)
    blocks = tl.program_id(1) * GROUP + tl.arange(0, GROUP)
    latents = blocks[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    keys = _keys(pre, factors, row, latents, latents < d_sae, stride, HAS_SCALE, BY_ABS, BITS)
    tl.store(maxima + row * n_blocks + blocks, tl.max(keys, axis=1), mask=blocks < n_blocks)


@triton.jit
def _largest_blocks(  # type: ignore[no-untyped-def]
    maxima, chosen, n_blocks, k, BITS: tl.constexpr, PADDED: tl.constexpr
):
    """The indices of the k blocks of a row with the largest maxima, in order."""
    row = tl.program_id(0).to(tl.int64)
    blocks = tl.arange(0, PADDED)
    keys = tl.load(maxima + row * n_blocks + blocks, mask=blocks < n_blocks, other=0)
    keys = tl.where(blocks < n_blocks, keys, _lowest(BITS))
    best = _kept(keys, k, BITS)
    place = tl.cumsum(best.to(tl.int32), axis=0) - 1
    tl.store(chosen + row * k + place, blocks, mask=best)


@triton.jit
def _largest_entries(  # type: ignore[no-untyped-def]
    pre, factors, chosen, values, indices, d_sae, k, stride,
    HAS_SCALE: tl.constexpr, BY_ABS: tl.constexpr, BITS: tl.constexpr,
    BLOCK: tl.constexpr, CANDIDATES: tl.constexpr,
):  # fmt: skip
    """The k largest entries in the chosen blocks of a row, in order."""
    row = tl.program_id(0).to(tl.int64)
    candidates = tl.arange(0, CANDIDATES)
    number = candidates // BLOCK
    blocks = tl.load(chosen + row * k + number, mask=number < k, other=0)
    latents = blocks * BLOCK + candidates % BLOCK
    inside = (number < k) & (latents < d_sae)
    keys = _keys(pre, factors, row, latents, inside, stride, HAS_SCALE, BY_ABS, BITS)
    best = _kept(keys, k, BITS)
    place = row * k + tl.cumsum(best.to(tl.int32), axis=0) - 1
    tl.store(values + place, tl.load(pre + row * stride + latents, mask=best), mask=best)
    tl.store(indices + place, latents.to(tl.int64), mask=best)
