"""The kernels of `saecore.ops.plain` compiled by Numba, for float32 and float64 on the CPU.

Numba compiles at the first call and keeps the result (see `threads`), so no compiler is needed
where saecore is installed. Sums have a fixed order: the same bits on every run, on any number of
threads. Where a row holds NaN or inf, or few rows are asked for by many latents, `plain` serves.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from saecore.codes import Codes, Pattern
from saecore.ops import plain
from saecore.ops.chunks import preactivation_chunks
from saecore.ops.compiled import screen, selection, sparse
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
    factor = x.new_ones(d_sae) if scale is None else scale.contiguous()
    centred = (x if centre is None else x - centre).contiguous()
    weights = (encoder.contiguous(), b_enc.contiguous(), k, factor, by_abs)
    if screen.pays(x, encoder, k):
        left = screen.topk(centred, *weights, values, indices)
        if len(left):
            rest = values[left], indices[left]
            _topk(centred[left], *weights, *rest)
            values[left], indices[left] = rest
    else:
        _topk(centred, *weights, values, indices)
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
    """Write the k best of each row, from all pre-activations; arguments as of `screen.topk`."""
    groups = max(len(encoder) // 32, 4 * k)
    for chunk, pre in preactivation_chunks(rows, encoder, b_enc, None):
        odd = torch.zeros(len(pre), dtype=torch.bool)
        arrays = [one.numpy() for one in (values[chunk], indices[chunk], odd)]
        spread(selection.top_rows, len(pre), pre.numpy(), scale.numpy(), by_abs, k, groups, *arrays)
        if odd.numpy().any():
            plain.choose_top(pre, odd, k, scale, by_abs, values[chunk], indices[chunk])


def select_batch_topk(
    x: Tensor,
    encoder: Tensor,
    b_enc: Tensor,
    n: int,
    centre: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Pattern]:
    """Values `[n]` and pattern of the n best of the batch."""
    found = None
    if n and screen.pays(x, encoder, -(-n // len(x))):
        centred = (x if centre is None else x - centre).contiguous()
        factor = x.new_ones(len(encoder)) if scale is None else scale.contiguous()
        found = screen.batch_topk(centred, encoder.contiguous(), b_enc.contiguous(), n, factor)
    if found is None:
        return plain.select_batch_topk(x, encoder, b_enc, n, centre, scale)
    values, pattern = found
    ranks = values * factor[pattern.indices]
    nth = float(np.partition(ranks.numpy(), len(ranks) - n)[len(ranks) - n])
    kept = ranks > nth
    equal = (ranks == nth).nonzero(as_tuple=True)[0]
    # Ties: the lowest token, then the lowest latent.
    kept[equal[: n - int(kept.numpy().sum())]] = True
    offsets = torch.searchsorted(pattern.rows[kept], torch.arange(len(x) + 1))
    return values[kept], Pattern(pattern.indices[kept], offsets, len(encoder))


def select_above(
    x: Tensor, encoder: Tensor, b_enc: Tensor, threshold: float | Tensor, centre: Tensor | None
) -> tuple[Tensor, Pattern]:
    """Values and pattern of every entry above the threshold."""
    found = None
    if screen.pays(x, encoder, 0):
        limits = torch.as_tensor(threshold, dtype=x.dtype).expand(len(encoder)).contiguous()
        centred = (x if centre is None else x - centre).contiguous()
        found = screen.above(centred, encoder.contiguous(), b_enc.contiguous(), limits)
    return found or plain.select_above(x, encoder, b_enc, threshold, centre)


def select_group_max(
    x: Tensor, encoder: Tensor, b_enc: Tensor, groups: int, centre: Tensor | None
) -> tuple[Tensor, Pattern]:
    """Values `[N * groups]` and pattern of the largest entry of each group."""
    values = x.new_empty(len(x), groups)
    indices = torch.empty(len(x), groups, dtype=torch.int64)
    for chunk, pre in preactivation_chunks(x, encoder, b_enc, centre):
        odd = torch.empty(len(pre), dtype=torch.bool)
        arrays = [one.numpy() for one in (pre, values[chunk], indices[chunk], odd)]
        spread(selection.group_rows, len(pre), *arrays)
        if odd.numpy().any():
            return plain.select_group_max(x, encoder, b_enc, groups, centre)
    codes = Codes.from_top(values, indices, len(encoder))
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
