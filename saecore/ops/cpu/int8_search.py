"""Exact selections by an 8-bit integer product; the kernels are in `int8_kernels`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from saecore.ops import reference
from saecore.ops.chunks import row_chunks
from saecore.ops.codes import Pattern
from saecore.ops.cpu import int8_kernels, quantizing, selection
from saecore.ops.cpu.threads import spread

MOST_OPEN = 0.25
"""Share of unproved rows above which the rest of a batch is not screened."""

MOST_ABOVE = 1 / 50
"""Share of entries above a threshold above which a dense product is as fast."""

SAMPLE = 32
"""Number of rows in which entries above a threshold are counted."""

LARGE = 16
"""Largest number of coordinates that are excluded from the integers."""


@functools.cache
def exact() -> bool:
    """Whether this processor multiplies 8-bit integers fast, and torch does so exactly."""
    if not torch.cpu._is_vnni_supported():
        return False
    # If pairs are added in 16 bits, products of the largest numbers overflow.
    largest = torch.full((32, 64), 127, dtype=torch.int8)
    others = largest.clone()
    others[::2] = -127
    others[::4, ::2] = 127
    got = torch._int_mm(largest, others.t())
    return torch.equal(got.long(), largest.long() @ others.long().t())


def is_faster(x: Tensor, encoder: Tensor, k: int) -> bool:
    """Whether screening outweighs its overhead; measured with 64 ≤ d_in ≤ 1024."""
    return (
        x.dtype == torch.float32
        and x.shape[1] >= 128
        and x.shape[1] % 16 == 0
        and len(encoder) % 16 == 0
        and len(x) >= 256
        and len(encoder) >= 64 * k
        and exact()
    )


def _quantized(rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `[n, d]` as integers, and the table that `quantizing.quantize` writes `[4, n]`."""
    integers, table = torch.empty(rows.shape, dtype=torch.int8), rows.new_empty(4, len(rows))
    arrays = [tensor.numpy() for tensor in (rows, mask, integers, table)]
    spread(quantizing.quantize, len(rows), *arrays)
    return integers, table


@attrs.frozen(eq=False)
class Chunk:
    """Some rows and their integer product."""

    rows: slice
    arguments: list[Any]
    """Arguments of the kernels, up to `offset`."""

    def __len__(self) -> int:
        return int(self.rows.stop - self.rows.start)

    def sample(self) -> Tensor:
        """The approximate ranks of every 61st entry (odd, so that all latents are sampled)."""
        product, _, table, *_, factors, offset = self.arguments
        some = np.arange(0, product.size, 61)
        row, latent = some // product.shape[1], some % product.shape[1]
        ranks = product[row, latent] * table[0, row] * factors[0, latent]
        return torch.from_numpy(ranks + offset[row % len(offset), latent])


def chunks(
    rows: Tensor, encoder: Tensor, b_enc: Tensor, scale: Tensor, threshold: Tensor | None = None
) -> Iterator[Chunk]:
    """Row chunks and their products, in reused buffers; nothing if a weight is not finite.

    The rank is `(pre - threshold) * scale`.
    """
    mask, large = _coordinates(rows)
    integers, table = _quantized(rows, mask)
    weights, factors = _quantized(encoder, mask)
    factors[3] += b_enc.abs()  # bounds the rounding error of the bias
    factors *= scale
    bias = b_enc * scale
    if threshold is not None:
        factors[3] += threshold.abs() * scale
        bias -= threshold * scale
    if not np.isfinite((factors.sum() + bias.sum()).numpy()):
        return
    extra = encoder[:, large] * scale[:, None]
    parts = list(row_chunks(len(rows), len(encoder), 4))
    size = parts[0].stop
    buffer = torch.empty(size, len(encoder), dtype=torch.int32)
    offsets = torch.empty(size if len(large) else 1, len(encoder))
    offsets[:] = bias
    for part in parts:
        count = part.stop - part.start
        product, offset = buffer[:count], offsets[:count]
        torch._int_mm(integers[part], weights.t(), out=product)
        if len(large):
            torch.addmm(bias, rows[part][:, large], extra.t(), out=offset)
        tensors = (product, rows[part], table[:, part].contiguous(), encoder, b_enc, scale)
        yield Chunk(part, [tensor.numpy() for tensor in (*tensors, factors, offset)])


def _coordinates(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which coordinates go into the integers `[d]` (1 or 0), and indices of the others.

    Language models have a few coordinates far larger than the rest, which would vanish if all were
    quantized with one unit.
    """
    squares = rows.square().mean(0)
    best = squares.topk(LARGE)
    large = best.indices[best.values > 16 * squares.median()].sort().values
    mask = rows.new_ones(rows.shape[1])
    mask[large] = 0
    return mask, large


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
    """Write the k best of every row that can be proved; return the indices of the other rows.

    Args:
        rows: centered inputs `[N, d_in]`, contiguous.
        encoder: `[d_sae, d_in]`, contiguous.
        b_enc: `[d_sae]`.
        k: entries per row.
        scale: positive factor of the ranking `[d_sae]`.
        by_abs: rank by absolute value.
        values: `[N, k]`, written.
        indices: `[N, k]`, written.
    """
    d_sae, everything = len(encoder), torch.arange(len(rows))
    limit, groups = max(2 * k + 64, d_sae // 16), max(d_sae // 32, 4 * k)
    unproved = torch.ones(len(rows), dtype=torch.bool)
    for chunk in chunks(rows, encoder, b_enc, scale):
        written = [tensor[chunk.rows].numpy() for tensor in (values, indices, unproved)]
        settings = (by_abs, k, groups, limit)
        spread(int8_kernels.top_screened, len(chunk), *chunk.arguments, *settings, *written)
        if int(unproved[chunk.rows].sum()) > MOST_OPEN * len(chunk):
            break
    return everything[unproved]


def batch_topk(
    rows: Tensor, encoder: Tensor, b_enc: Tensor, n: int, scale: Tensor
) -> tuple[Tensor, Pattern] | None:
    """Values and pattern of at least `n` entries of the batch, the best among them.

    None if that cannot be proved. Arguments as in `topk`.
    """
    d_sae, bound = len(encoder), None
    room = max(d_sae // 16, min(d_sae, 8 * n // len(rows)))
    reaching = []
    for chunk in chunks(rows, encoder, b_enc, scale):
        if bound is None:
            bound = float(reference.sampled_limit(chunk.sample(), n / (len(rows) * d_sae)).numpy())
        part = _reaching(chunk, torch.zeros(d_sae), bound, room)
        if part is None:
            return None
        reaching.append(part)
    return _joined(reaching, d_sae) if sum(len(values) for values, *_ in reaching) >= n else None


def above(
    rows: Tensor, encoder: Tensor, b_enc: Tensor, threshold: Tensor
) -> tuple[Tensor, Pattern] | None:
    """Values and pattern of all entries above their latent's threshold `[d_sae]`.

    None if that cannot be proved, or if so many are above it that a dense product is cheaper than
    computing each exactly. Other arguments as in `topk`.
    """
    d_sae = len(encoder)
    some = torch.addmm(b_enc, rows[:: max(1, len(rows) // SAMPLE)], encoder.t())
    share = float((some > threshold).float().mean().numpy())
    if share > MOST_ABOVE:
        return None
    room = min(d_sae, max(d_sae // 16, int(8 * share * d_sae)))
    reaching = []
    for chunk in chunks(rows, encoder, b_enc, torch.ones(d_sae), threshold):
        part = _reaching(chunk, threshold, 0.0, room)
        if part is None:
            return None
        reaching.append(part)
    return _joined(reaching, d_sae) if reaching else None


def _reaching(
    chunk: Chunk, threshold: Tensor, bound: float, room: int
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Entries of a chunk whose rank is above a bound; None if a row may have more than `room`.

    Returns values and latents `[nnz]`, row by row, and the number of entries per row `[rows]`.
    """
    size = len(chunk)
    values, latents = torch.empty(size, room), torch.empty(size, room, dtype=torch.int64)
    counts = torch.empty(size, dtype=torch.int64)
    written = [tensor.numpy() for tensor in (values, latents, counts)]
    limits = (threshold.numpy(), np.float32(bound))
    spread(int8_kernels.above_screened, size, *chunk.arguments, *limits, *written)
    if (counts < 0).numpy().any():
        return None
    ends = counts.cumsum(0)
    packed = values.new_empty(int(ends.numpy()[-1])), latents.new_empty(int(ends.numpy()[-1]))
    arrays = [tensor.numpy() for tensor in (values, latents, ends - counts, counts, *packed)]
    spread(selection.pack, size, *arrays)
    return *packed, counts


def _joined(parts: list[tuple[Tensor, Tensor, Tensor]], d_sae: int) -> tuple[Tensor, Pattern]:
    """Concatenate the entries of all chunks."""
    values, latents, counts = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=offsets[1:])
    return values, Pattern(latents, offsets, d_sae)
