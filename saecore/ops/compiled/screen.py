"""Exact selections by way of a product in 8-bit integers; the kernels are in `screening`."""

from __future__ import annotations

import functools
from collections.abc import Iterator

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
    weights, inputs = Quantized.of(encoder), Quantized.of(rows)
    everything = torch.arange(len(rows))
    bounds = [one * scale for one in (weights.unit, b_enc, weights.lost, weights.norm)]
    if not bool(torch.isfinite(torch.stack([one.sum() for one in bounds]).sum())):
        return everything
    d_sae = len(encoder)
    limit, groups = max(2 * k + 64, d_sae // 16), max(d_sae // 32, 4 * k)
    fixed = [one.numpy() for one in (encoder, b_enc, scale, *bounds)]
    left = []
    for chunk, product in _products(inputs.integers, weights.integers):
        given = (rows[chunk], inputs.unit[chunk], inputs.lost[chunk], inputs.norm[chunk])
        unproved = torch.empty(len(product), dtype=torch.bool)
        written = (values[chunk], indices[chunk], unproved)
        spread(
            screening.top_screened,
            len(product),
            product.numpy(),
            *(one.numpy() for one in given),
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


def _products(rows: Tensor, encoder: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Row chunks of `rows @ encoderᵀ`, int32, all in one reused buffer."""
    chunks = list(plain.row_chunks(len(rows), len(encoder), 4))
    buffer = torch.empty(chunks[0].stop, len(encoder), dtype=torch.int32)
    for chunk in chunks:
        part = buffer[: chunk.stop - chunk.start]
        size = len(part)
        torch._int_mm(rows[chunk], encoder.t(), out=part)
        yield chunk, part[:size]
