"""Processing rows in chunks, so that `[N, d_sae]` is never stored."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_BYTES = 16 * 2**20
"""Size of a dense chunk."""

CHUNK_ROWS, WIDE_CHUNK_BYTES = 256, 64 * 2**20
"""Rows that a chunk has at least, unless it would be larger than the second: in a product of fewer
rows, reading the encoder takes longer than multiplying.
"""


def chunk_rows(row_bytes: int) -> int:
    """Number of rows of a chunk."""
    return max(1, CHUNK_BYTES // row_bytes, min(CHUNK_ROWS, WIDE_CHUNK_BYTES // row_bytes))


def row_chunks(n_rows: int, width: int, itemsize: int) -> Iterator[slice]:
    """Split `range(n_rows)` into chunks."""
    step = chunk_rows(width * itemsize)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def preactivation_chunks(
    x: Tensor, encoder: Tensor, b_enc: Tensor, center: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """Row chunks of the pre-activations, all in one reused buffer `[rows, d_sae]`."""
    centered = x if center is None else x - center
    device = x.device.type
    if torch.is_autocast_enabled(device):
        low = torch.get_autocast_dtype(device)
        centered, encoder = centered.to(low), encoder.to(low)
    chunks = list(row_chunks(len(x), len(encoder), x.element_size()))
    if not chunks:
        return
    rows = chunks[0].stop
    buffer = torch.empty(rows, len(encoder), dtype=centered.dtype, device=x.device)
    bias = b_enc.to(centered.dtype)
    for chunk in chunks:
        part = buffer[: chunk.stop - chunk.start]
        torch.addmm(bias, centered[chunk], encoder.t(), out=part)
        yield chunk, part.to(x.dtype)
