"""The kernels under `saecore.ops` for CUDA devices, in Triton, which torch's CUDA builds bring.

Every function has the name, arguments and result of its twin in `saecore.ops.reference`, but sums
in a different order. Operands may be bfloat16; sums are float32. No function blocks the host.
 TRITON_INTERPRET=1 in the environment runs the same kernels on the CPU, slowly, for tests.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import torch
from torch import Tensor

from saecore.ops import reference
from saecore.ops.codes import Codes, Pattern

CHUNK_BYTES = 512 * 2**20
"""Size of the pre-activations processed at a time: enough rows for a full product."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LEAST = 2**21
"""Entries of matrix rows below which launching a kernel costs more than it saves."""


def interpreted() -> bool:
    """Whether Triton runs its kernels on the CPU, by its interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def available() -> bool:
    """Whether Triton and a CUDA device (or the interpreter) are available."""
    on_device = interpreted() or (torch.cuda.is_available() and torch.version.hip is None)
    return on_device and importlib.util.find_spec("triton") is not None


def supports(operation: str, *tensors: Tensor) -> bool:
    """Whether all tensors are on such a device, in a precision that float32 can sum."""
    on_device = all(tensor.is_cuda or interpreted() for tensor in tensors)
    return on_device and (
        operation == "group_by_latent" or all(operand.dtype in DTYPES for operand in tensors)
    )


def is_faster(operation: str, *tensors: Tensor) -> bool:
    """Whether there is enough work, or the twin would not be deterministic."""
    if operation in ("latent_sum", "group_by_latent"):
        return True
    if operation == "select_topk":
        x, encoder = tensors
        return len(x) * len(encoder) >= LEAST
    return max(tensor.numel() for tensor in tensors) >= LEAST


def select_topk(
    x: Tensor,
    encoder: Tensor,
    b_enc: Tensor,
    k: int,
    center: Tensor | None,
    scale: Tensor | None,
    by_abs: bool,
) -> tuple[Tensor, Pattern]:
    """Values `[N * k]` and pattern of the k best of each row, ordered by latent."""
    from saecore.ops.cuda import topk

    d_sae = len(encoder)
    if topk.block_size(d_sae, k) is None:  # too few blocks: reading everything again costs no more
        return reference.select_topk(x, encoder, b_enc, k, center, scale, by_abs)
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    for chunk, pre in _preactivation_chunks(x, encoder, b_enc, center):
        topk.select(pre, k, scale, by_abs, values[chunk], indices[chunk])
    codes = Codes.from_top(values, indices, d_sae)
    return codes.values, codes.pattern


def gather_sum(pattern: Pattern, values: Tensor, matrix: Tensor) -> Tensor:
    """For each row the sum of `values * matrix[latent]` `[N, d]`: codes @ matrix."""
    from saecore.ops.cuda import rows

    if pattern.density > reference.DENSE:
        return reference.gather_sum(pattern, values, matrix)
    return rows.gather_sum(pattern.indices, pattern.offsets, values, matrix)


def dot(pattern: Pattern, rows: Tensor, matrix: Tensor) -> Tensor:
    """For each entry `rows[row] · matrix[latent]` `[nnz]`."""
    from saecore.ops.cuda import rows as kernels

    if pattern.density > reference.DENSE:
        return reference.dot(pattern, rows, matrix)
    return kernels.dot(pattern.indices, pattern.offsets, rows, matrix)


def scatter_outer(pattern: Pattern, values: Tensor, rows: Tensor) -> Tensor:
    """For each latent the sum of `values * rows[row]` `[d_sae, d]`: codesᵀ @ rows."""
    from saecore.ops.cuda import rows as kernels

    if pattern.density > reference.DENSE:
        return reference.scatter_outer(pattern, values, rows)
    order, starts = pattern.by_latent
    return kernels.gather_sum(pattern.rows[order], starts, values[order], rows)


def latent_sum(pattern: Pattern, values: Tensor) -> Tensor:
    """For each latent the sum of its values `[d_sae]`, always in the order of rows."""
    order, starts = pattern.by_latent
    # Differences of a running sum, which float64 keeps exact enough.
    running = torch.zeros(len(values) + 1, dtype=torch.float64, device=values.device)
    torch.cumsum(values[order], 0, dtype=torch.float64, out=running[1:])
    ends = running[starts]
    return (ends[1:] - ends[:-1]).to(values.dtype)


def group_by_latent(indices: Tensor, d_sae: int) -> tuple[Tensor, Tensor]:
    """The stable order of entries `[nnz]` by latent, and each latent's start `[d_sae + 1]`.

    Keys have half the size of the twin's, and the host is not blocked. If no value is zero, the
    differences of the starts count how often each latent fires.
    """
    keys, order = torch.sort(indices.to(torch.int32), stable=True)
    latents = torch.arange(d_sae + 1, dtype=torch.int32, device=keys.device)
    return order, torch.searchsorted(keys, latents)


def _preactivation_chunks(
    x: Tensor, encoder: Tensor, b_enc: Tensor, center: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """Row chunks of the pre-activations in the product's precision, in one reused buffer."""
    centered = x if center is None else x - center
    device = x.device.type
    if torch.is_autocast_enabled(device):
        low = torch.get_autocast_dtype(device)
        centered, encoder = centered.to(low), encoder.to(low)
    bias = b_enc.to(centered.dtype)
    rows = max(1, min(len(x), CHUNK_BYTES // (len(encoder) * centered.element_size())))
    buffer = torch.empty(rows, len(encoder), dtype=centered.dtype, device=x.device)
    for start in range(0, len(x), rows):
        chunk = slice(start, min(start + rows, len(x)))
        part = buffer[: chunk.stop - chunk.start]
        torch.addmm(bias, centered[chunk], encoder.t(), out=part)
        yield chunk, part
