"""The kernels of `saecore.ops.reference` compiled by Numba, for float32 and float64 on the CPU.

Numba compiles on the first call and caches the result (see `threads`), so no compiler needs to be
installed. Sums have a fixed order: the same bits on every run and any number of threads. The
reference handles rows with NaN or inf, and sums of few rows over many latents.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from saecore.ops import reference
from saecore.ops.chunks import preactivation_chunks
from saecore.ops.codes import Codes, Pattern
from saecore.ops.cpu import int8_search, selection, sparse
from saecore.ops.cpu.threads import spread

WORTH = 2**20
"""Number of cells or gathered values below which torch's operations are as fast."""


def available() -> bool:
    """True: without Numba this module could not have been imported."""
    return True


def supports(operation: str, *tensors: Tensor) -> bool:
    """Supports tensors on the CPU in one precision, float32 or float64."""
    first = tensors[0]
    if operation == "group_by_latent":
        return first.device.type == "cpu"
    return (
        first.device.type == "cpu"
        and first.dtype in (torch.float32, torch.float64)
        and all(tensor.dtype == first.dtype and tensor.device == first.device for tensor in tensors)
        and not torch.is_autocast_enabled("cpu")
    )


def is_faster(operation: str, *tensors: Tensor) -> bool:
    """Whether the work outweighs the overhead."""
    first, last = tensors[0], tensors[-1]
    if operation == "group_by_latent":
        return len(first) >= WORTH // 256
    if operation.startswith("select"):
        return len(first) * len(last) >= WORTH
    return first.numel() * last.shape[-1] >= WORTH


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
    d_sae = len(encoder)
    groups = max(d_sae // 32, 4 * k)
    if groups > d_sae // 2 or not k:  # maxima of so many groups would exclude too little
        return reference.select_topk(x, encoder, b_enc, k, center, scale, by_abs)
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64)
    factor = x.new_ones(d_sae) if scale is None else scale.contiguous()
    centered = (x if center is None else x - center).contiguous()
    weights = (encoder.contiguous(), b_enc.contiguous(), k, factor, by_abs)
    if int8_search.is_faster(x, encoder, k):
        left = int8_search.topk(centered, *weights, values, indices)
        if len(left):
            rest = values[left], indices[left]
            _topk(centered[left], *weights, *rest)
            values[left], indices[left] = rest
    else:
        _topk(centered, *weights, values, indices)
    codes = Codes.from_top(values, indices, d_sae)
    return codes.values, codes.pattern


def _topk(
    rows: Tensor,
    encoder: Tensor,
    b_enc: Tensor,
    k: int,
    scale: Tensor,
    by_abs: bool,
    values: Tensor,
    indices: Tensor,
) -> None:
    """Write the k best of each row, from all pre-activations; arguments as in
    `int8_search.topk`.
    """
    groups = max(len(encoder) // 32, 4 * k)
    for chunk, pre in preactivation_chunks(rows, encoder, b_enc, None):
        odd = torch.zeros(len(pre), dtype=torch.bool)
        arrays = [tensor.numpy() for tensor in (values[chunk], indices[chunk], odd)]
        spread(selection.top_rows, len(pre), pre.numpy(), scale.numpy(), by_abs, k, groups, *arrays)
        if odd.numpy().any():
            reference.choose_top(pre, odd, k, scale, by_abs, values[chunk], indices[chunk])


def select_batch_topk(
    x: Tensor,
    encoder: Tensor,
    b_enc: Tensor,
    n: int,
    center: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Pattern]:
    """Values `[n]` and pattern of the n best of the batch."""
    proved = None
    if n and int8_search.is_faster(x, encoder, -(-n // len(x))):
        centered = (x if center is None else x - center).contiguous()
        factor = x.new_ones(len(encoder)) if scale is None else scale.contiguous()
        proved = int8_search.batch_topk(
            centered, encoder.contiguous(), b_enc.contiguous(), n, factor
        )
    if proved is None:
        return reference.select_batch_topk(x, encoder, b_enc, n, center, scale)
    values, pattern = proved
    ranks = values * factor[pattern.indices]
    nth = float(np.partition(ranks.numpy(), len(ranks) - n)[len(ranks) - n])
    mask = ranks > nth
    equal = (ranks == nth).nonzero(as_tuple=True)[0]
    # Ties: the lowest token, then the lowest latent.
    mask[equal[: n - int(mask.numpy().sum())]] = True
    offsets = torch.searchsorted(pattern.rows[mask], torch.arange(len(x) + 1))
    return values[mask], Pattern(pattern.indices[mask], offsets, len(encoder))


def select_above(
    x: Tensor, encoder: Tensor, b_enc: Tensor, threshold: float | Tensor, center: Tensor | None
) -> tuple[Tensor, Pattern]:
    """Values and pattern of every entry above the threshold."""
    proved = None
    if int8_search.is_faster(x, encoder, 0):
        limits = torch.as_tensor(threshold, dtype=x.dtype).expand(len(encoder)).contiguous()
        centered = (x if center is None else x - center).contiguous()
        proved = int8_search.above(centered, encoder.contiguous(), b_enc.contiguous(), limits)
    return proved or reference.select_above(x, encoder, b_enc, threshold, center)


def select_group_max(
    x: Tensor, encoder: Tensor, b_enc: Tensor, groups: int, center: Tensor | None
) -> tuple[Tensor, Pattern]:
    """Values `[N * groups]` and pattern of the largest entry of each group."""
    values = x.new_empty(len(x), groups)
    indices = torch.empty(len(x), groups, dtype=torch.int64)
    for chunk, pre in preactivation_chunks(x, encoder, b_enc, center):
        odd = torch.empty(len(pre), dtype=torch.bool)
        arrays = [tensor.numpy() for tensor in (pre, values[chunk], indices[chunk], odd)]
        spread(selection.group_rows, len(pre), *arrays)
        if odd.numpy().any():
            return reference.select_group_max(x, encoder, b_enc, groups, center)
    codes = Codes.from_top(values, indices, len(encoder))
    return codes.values, codes.pattern


def group_by_latent(indices: Tensor, d_sae: int) -> tuple[Tensor, Tensor]:
    """Sort the entries by latent; see `reference.group_by_latent`."""
    order = torch.empty_like(indices)
    starts = torch.zeros(d_sae + 1, dtype=torch.int64)
    sparse.sort_entries(indices.contiguous().numpy(), starts.numpy(), order.numpy())
    return order, starts


def gather_sum(pattern: Pattern, values: Tensor, matrix: Tensor) -> Tensor:
    """For each row the sum of `values * matrix[latent]` `[N, d]`: codes @ matrix."""
    if pattern.density > reference.DENSE:
        return reference.gather_sum(pattern, values, matrix)
    return _sums(pattern.offsets, pattern.indices, values, matrix)


def scatter_outer(pattern: Pattern, values: Tensor, rows: Tensor) -> Tensor:
    """For each latent the sum of `values * rows[row]` `[d_sae, d]`: codesᵀ @ rows."""
    if pattern.density > reference.DENSE:
        return reference.scatter_outer(pattern, values, rows)
    order, starts = pattern.by_latent
    return _sums(starts, pattern.rows[order], values[order], rows)


def dot(pattern: Pattern, rows: Tensor, matrix: Tensor) -> Tensor:
    """For each entry `rows[row] · matrix[latent]` `[nnz]`."""
    if pattern.density > reference.DENSE:
        return reference.dot(pattern, rows, matrix)
    out = rows.new_empty(len(pattern.indices))
    arrays = (pattern.offsets, pattern.indices, rows.contiguous(), matrix.contiguous(), out)
    spread(sparse.dot_rows, pattern.n_rows, *(array.detach().numpy() for array in arrays))
    return out


def _sums(offsets: Tensor, numbers: Tensor, values: Tensor, matrix: Tensor) -> Tensor:
    out = matrix.new_empty(len(offsets) - 1, matrix.shape[1])
    arrays = (offsets, numbers, values.contiguous(), matrix.contiguous(), out)
    spread(sparse.sum_rows, len(out), *(array.detach().numpy() for array in arrays))
    return out
