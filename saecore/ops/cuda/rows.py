"""Sums over rows of a matrix; each program keeps one row of the result in registers.

A row of d entries is split into the largest power of two in d and the rest, padded to the next:
2304 is 2048 + 256, where padding the whole would be 4096. Addresses are 64 bits wide: M · d passes
2³¹ at d_sae = 2²⁰ and d_in = 2048.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096
"""Elements of a matrix that a program loads at once; several rows if they are short."""


def gather_sum(
    indices: Tensor,
    offsets: Tensor,
    values: Tensor,
    matrix: Tensor,
    minus: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Row n is the sum of `values[e] * matrix[indices[e]]` over `offsets[n] ≤ e < offsets[n + 1]`.

    Args:
        indices: rows of the matrix `[nnz]`, int64.
        offsets: `[N + 1]`, int64.
        values: factors `[nnz]`.
        matrix: `[M, d]`.
        minus: subtracted from the result `[N, d]`: a decoder's residual x̂ − x in one pass.
        dtype: dtype of the result; default: that of the matrix. Sums are always float32.

    Returns:
        `[N, d]`, the same bits on every run.
    """
    matrix = matrix.contiguous()
    n_rows, d = len(offsets) - 1, matrix.shape[1]
    out = torch.empty(n_rows, d, dtype=dtype or matrix.dtype, device=matrix.device)
    first, rest, tile, warps = _parts(d)
    less = out if minus is None else minus.contiguous()
    _gather_sum[(n_rows,)](
        indices, offsets, values.contiguous(), matrix, less, out, d,
        MINUS=minus is not None, FIRST=first, REST=rest, ENTRIES=tile, num_warps=warps,
    )  # fmt: skip
    return out


def dot(indices: Tensor, offsets: Tensor, rows: Tensor, matrix: Tensor) -> Tensor:
    """`rows[n] · matrix[indices[e]]` for every entry e of every row n `[nnz]`.

    Arguments as in `gather_sum`; `rows [N, d]`.
    """
    matrix, rows = matrix.contiguous(), rows.contiguous()
    d = matrix.shape[1]
    out = rows.new_empty(len(indices))
    first, rest, tile, warps = _parts(d)
    _dot[(len(rows),)](
        indices, offsets, rows, matrix, out, d,
        FIRST=first, REST=rest, ENTRIES=tile, num_warps=warps,
    )  # fmt: skip
    return out


def _parts(d: int) -> tuple[int, int, int, int]:
    """Sizes of the two parts of a row, rows of a tile, and warps."""
    first = 1 << (d.bit_length() - 1)
    rest = triton.next_power_of_2(d - first) if d > first else 0
    return first, rest, max(1, TILE // (2 * first if rest else first)), 8 if d > 1024 else 4


@triton.jit
def _part(matrix, numbers, inside, columns, d):  # type: ignore[no-untyped-def]
    """Some columns of some rows, float32."""
    at = numbers.to(tl.int64)[:, None] * d + columns[None, :]
    mask = inside[:, None] & (columns < d)[None, :]
    return tl.load(matrix + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _gather_sum(  # type: ignore[no-untyped-def]
    indices, offsets, values, matrix, minus, out, d,
    MINUS: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    low, high = tl.load(offsets + row), tl.load(offsets + row + 1)
    columns = tl.arange(0, FIRST)
    total = tl.zeros((FIRST,), tl.float32)
    if REST > 0:
        others = FIRST + tl.arange(0, REST)
        left = tl.zeros((REST,), tl.float32)
    for start in range(low, high, ENTRIES):
        entries = start + tl.arange(0, ENTRIES)
        inside = entries < high
        numbers = tl.load(indices + entries, mask=inside, other=0)
        factors = tl.load(values + entries, mask=inside, other=0.0).to(tl.float32)[:, None]
        total += tl.sum(factors * _part(matrix, numbers, inside, columns, d), axis=0)
        if REST > 0:
            left += tl.sum(factors * _part(matrix, numbers, inside, others, d), axis=0)
    if MINUS:
        total -= tl.load(minus + row * d + columns).to(tl.float32)
    tl.store(out + row * d + columns, total)
    if REST > 0:
        if MINUS:
            left -= tl.load(minus + row * d + others, mask=others < d, other=0.0).to(tl.float32)
        tl.store(out + row * d + others, left, mask=others < d)


@triton.jit
def _dot(  # type: ignore[no-untyped-def]
    indices, offsets, rows, matrix, out, d,
    FIRST: tl.constexpr, REST: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    low, high = tl.load(offsets + row), tl.load(offsets + row + 1)
    columns = tl.arange(0, FIRST)
    mine = tl.load(rows + row * d + columns).to(tl.float32)[None, :]
    if REST > 0:
        others = FIRST + tl.arange(0, REST)
        rest = tl.load(rows + row * d + others, mask=others < d, other=0.0).to(tl.float32)[None, :]
    for start in range(low, high, ENTRIES):
        entries = start + tl.arange(0, ENTRIES)
        inside = entries < high
        numbers = tl.load(indices + entries, mask=inside, other=0)
        products = tl.sum(mine * _part(matrix, numbers, inside, columns, d), axis=1)
        if REST > 0:
            products += tl.sum(rest * _part(matrix, numbers, inside, others, d), axis=1)
        tl.store(out + entries, products, mask=inside)
