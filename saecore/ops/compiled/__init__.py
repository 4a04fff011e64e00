"""The kernels of `saecore.ops.plain` compiled by Numba, for float32 and float64 on the CPU.

Numba compiles at the first call and keeps the result (see `threads`), so no compiler is needed
where saecore is installed. Sums have a fixed order: the same bits on every run, on any number of
threads. Where a row holds NaN or inf, or few rows are asked for by many latents, `plain` serves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saecore.codes import Codes, Pattern
from saecore.ops import plain
from saecore.ops.compiled import selection, sparse
from saecore.ops.compiled.threads import spread

WORTH = 2**20
"""Cells (of a selection) or numbers gathered below which torch's own operations are as fast."""


def available() -> bool:
    """Whether Numba is there: else this module could not have been imported."""
    return True


def takes(operation: str, *tensors: Tensor) -> bool:
    """Matrices and vectors on the CPU in one precision, float32 or float64."""
    first = tensors[0]
    if operation == "group_by_latent":
        return first.device.type == "cpu"
    return (
        first.device.type == "cpu"
        and first.dtype in (torch.float32, torch.float64)
        and all(one.dtype == first.dtype and one.device == first.device for one in tensors)
        and not torch.is_autocast_enabled("cpu")
    )


def pays(operation: str, *tensors: Tensor) -> bool:
    """Whether there is enough to do."""
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
    centre: Tensor | None,
    scale: Tensor | None,
    by_abs: bool,
) -> tuple[Tensor, Pattern]:
    """Values `[N * k]` and pattern of the k best of each row, in the order of latents."""
    d_sae = len(encoder)
    groups = max(d_sae // 32, 4 * k)
    if groups > d_sae // 2 or not k:  # the maxima would say nothing
        return plain.select_topk(x, encoder, b_enc, k, centre, scale, by_abs)
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64)
    factor = x.new_ones(d_sae) if scale is None else scale.detach().contiguous()
    for chunk, pre in plain.preactivation_chunks(x, encoder, b_enc, centre):
        odd = torch.zeros(len(pre), dtype=torch.bool)
        arrays = [one.numpy() for one in (values[chunk], indices[chunk], odd)]
        spread(
            selection.top_rows, len(pre), pre.numpy(), factor.numpy(), by_abs, k, groups, *arrays
        )
        if bool(odd.any()):
            plain.choose_top(pre, odd, k, scale, by_abs, values[chunk], indices[chunk])
    codes = Codes.from_top(values, indices, d_sae)
    return codes.values, codes.pattern


def group_by_latent(indices: Tensor, d_sae: int) -> tuple[Tensor, Tensor]:
    """The entries latent after latent; see `plain.group_by_latent`."""
    order = torch.empty_like(indices)
    starts = torch.zeros(d_sae + 1, dtype=torch.int64)
    sparse.sort_entries(indices.contiguous().numpy(), starts.numpy(), order.numpy())
    return order, starts


def gather_sum(pattern: Pattern, values: Tensor, matrix: Tensor) -> Tensor:
    """For each row the sum of `values * matrix[latent]` `[N, d]`: codes @ matrix."""
    if pattern.density > plain.DENSE:
        return plain.gather_sum(pattern, values, matrix)
    return _sums(pattern.offsets, pattern.indices, values, matrix)


def scatter_outer(pattern: Pattern, values: Tensor, rows: Tensor) -> Tensor:
    """For each latent the sum of `values * rows[row]` `[d_sae, d]`: codesᵀ @ rows."""
    if pattern.density > plain.DENSE:
        return plain.scatter_outer(pattern, values, rows)
    order, starts = pattern.by_latent
    return _sums(starts, pattern.rows[order], values[order], rows)


def dot(pattern: Pattern, rows: Tensor, matrix: Tensor) -> Tensor:
    """For each entry `rows[row] · matrix[latent]` `[nnz]`."""
    if pattern.density > plain.DENSE:
        return plain.dot(pattern, rows, matrix)
    out = rows.new_empty(len(pattern.indices))
    arrays = (pattern.offsets, pattern.indices, rows.contiguous(), matrix.contiguous(), out)
    spread(sparse.dot_rows, pattern.n_rows, *(one.detach().numpy() for one in arrays))
    return out


def _sums(offsets: Tensor, numbers: Tensor, values: Tensor, matrix: Tensor) -> Tensor:
    out = matrix.new_empty(len(offsets) - 1, matrix.shape[1])
    arrays = (offsets, numbers, values.contiguous(), matrix.contiguous(), out)
    spread(sparse.sum_rows, len(out), *(one.detach().numpy() for one in arrays))
    return out
