"""Exact selections by way of a product in 8-bit integers; the kernels are in `screening`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.ops import plain
from saecore.ops.compiled import screening
from saecore.ops.compiled.threads import spread

MOST_OPEN = 0.25
"""Share of rows without a proof above which the rest of a batch is not screened."""


@functools.cache
def exact() -> bool:
    """Whether this processor multiplies 8-bit integers fast, and torch without losing bits."""
    if not torch.cpu._is_vnni_supported():
        return False
    # Where pairs are added in 16 bits, products of the largest numbers overflow.
    largest = torch.full((32, 64), 127, dtype=torch.int8)
    others = largest.clone()
    others[::2] = -127
    others[::4, ::2] = 127
    got = torch._int_mm(largest, others.t())
    return torch.equal(got.long(), largest.long() @ others.long().t())


def pays(x: Tensor, encoder: Tensor, k: int) -> bool:
    """Whether screening a selection is worth its overhead: measured with 64 ≤ d_in ≤ 1024."""
    return (
        x.dtype == torch.float32
        and x.shape[1] >= 128
        and x.shape[1] % 16 == 0
        and len(encoder) % 16 == 0
        and len(x) >= 256
        and len(encoder) >= 64 * k
        and exact()
    )


@attrs.frozen(eq=False)
class Quantized:
    """Rows `[n, d]` as integers times a unit, with what that loses."""

    integers: Tensor
    """`[n, d]`, int8."""
    unit: Tensor
    """`[n]`."""
    lost: Tensor
    """Norm of the remainder `[n]`."""
    norm: Tensor
    """Norm of the row `[n]`; not finite where the row is not."""

    @classmethod
    def of(cls, rows: Tensor) -> Quantized:
        """Quantize contiguous rows."""
        integers = torch.empty(rows.shape, dtype=torch.int8)
        made = cls(integers, *(rows.new_empty(len(rows)) for _ in range(3)))
        outputs = [one.numpy() for one in (integers, made.unit, made.lost, made.norm)]
        spread(screening.quantize, len(rows), rows.numpy(), *outputs)
        return made

    def arrays(self, rows: Tensor, chunk: slice) -> list[Any]:
        """What kernels take of a chunk: the rows themselves, and all but the integers."""
        parts = (rows, self.unit, self.lost, self.norm)
        return [one[chunk].numpy() for one in parts]


@attrs.frozen(eq=False)
class _Encoder:
    """The quantized encoder, in the unit of ranks."""

    integers: Tensor
    bounds: tuple[Tensor, ...]
    """`factor`, `bias`, `lost`, `norm` of the kernels, each `[d_sae]`."""

    @classmethod
    def of(cls, encoder: Tensor, b_enc: Tensor, scale: Tensor) -> _Encoder | None:
        """Quantize; None where a weight is not finite."""
        made = Quantized.of(encoder)
        bounds = tuple(one * scale for one in (made.unit, b_enc, made.lost, made.norm))
        finite = torch.isfinite(torch.stack([one.sum() for one in bounds]).sum())
        return cls(made.integers, bounds) if finite.numpy() else None

    def arrays(self, encoder: Tensor, b_enc: Tensor, scale: Tensor) -> list[Any]:
        """What kernels take."""
        return [one.numpy() for one in (encoder, b_enc, scale, *self.bounds)]


def topk(
    rows: Tensor,
    encoder: Tensor,
    b_enc: Tensor,
    k: int,
    scale: Tensor,
    by_abs: bool,
    values: Tensor,
    indices: Tensor,
) -> Tensor:
    """The k best of every row that can be proved; the others are returned, by number.

    Args:
        rows: centred inputs `[N, d_in]`, contiguous.
        encoder: `[d_sae, d_in]`, contiguous.
        b_enc: `[d_sae]`.
        k: entries per row.
        scale: positive factor of the ranking `[d_sae]`.
        by_abs: rank by absolute value.
        values: `[N, k]`, written.
        indices: `[N, k]`, written.
    """
    inputs = Quantized.of(rows)
    everything = torch.arange(len(rows))
    weights = _Encoder.of(encoder, b_enc, scale)
    if weights is None:
        return everything
    d_sae = len(encoder)
    limit, groups = max(2 * k + 64, d_sae // 16), max(d_sae // 32, 4 * k)
    fixed = weights.arrays(encoder, b_enc, scale)
    left = []
    for chunk, product in _products(inputs.integers, weights.integers):
        unproved = torch.empty(len(product), dtype=torch.bool)
        written = (values[chunk], indices[chunk], unproved)
        spread(
            screening.top_screened,
            len(product),
            product.numpy(),
            *inputs.arrays(rows, chunk),
            *fixed,
            by_abs,
            k,
            groups,
            limit,
            *(one.numpy() for one in written),
        )
        left.append(everything[chunk][unproved])
        if len(left[-1]) > MOST_OPEN * len(product):
            left.append(everything[chunk.stop :])
            break
    return torch.cat(left)


def batch_topk(
    rows: Tensor, encoder: Tensor, b_enc: Tensor, n: int, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """At least `n` entries of the batch, the best among them: ranks, values, cells.

    Cells are `row * d_sae + latent`, ascending. None where that cannot be proved. Arguments as
    for `topk`.
    """
    inputs, weights = Quantized.of(rows), _Encoder.of(encoder, b_enc, scale)
    if weights is None:
        return None
    d_sae = len(encoder)
    fixed = weights.arrays(encoder, b_enc, scale)
    room = max(d_sae // 16, min(d_sae, 8 * n // len(rows)))
    bound: float | None = None
    values, cells = [], []
    for chunk, product in _products(inputs.integers, weights.integers):
        if bound is None:
            bound = _sampled_bound(product, inputs, weights, n / (len(rows) * d_sae))
        size = len(product)
        kept, latents = rows.new_empty(size, room), torch.empty(size, room, dtype=torch.int64)
        found = torch.empty(size, dtype=torch.int64)
        spread(
            screening.above_screened,
            size,
            product.numpy(),
            *inputs.arrays(rows, chunk),
            *fixed,
            bound,
            *(one.numpy() for one in (kept, latents, found)),
        )
        if (found < 0).numpy().any():
            return None
        filled = torch.arange(room) < found[:, None]
        values.append(kept[filled])
        cells.append((latents + torch.arange(chunk.start, chunk.stop)[:, None] * d_sae)[filled])
    value, cell = torch.cat(values), torch.cat(cells)
    return None if len(cell) < n else (value * scale[cell % d_sae], value, cell)


def _sampled_bound(product: Tensor, inputs: Quantized, weights: _Encoder, share: float) -> float:
    """A rank that about 1.3 times `share` of the entries exceed, from some of the first chunk."""
    factor, bias = weights.bounds[:2]
    some = torch.arange(0, product.numel(), 61)  # odd: all latents are met
    row, latent = some // len(factor), some % len(factor)
    ranks = product.reshape(-1)[some] * inputs.unit[row] * factor[latent] + bias[latent]
    return float(plain.sampled_limit(ranks, share))


def _products(rows: Tensor, encoder: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Row chunks of `rows @ encoderᵀ`, int32, all in one reused buffer."""
    chunks = list(plain.row_chunks(len(rows), len(encoder), 4))
    buffer = torch.empty(chunks[0].stop, len(encoder), dtype=torch.int32)
    for chunk in chunks:
        part = buffer[: chunk.stop - chunk.start]
        torch._int_mm(rows[chunk], encoder.t(), out=part)
        yield chunk, part
