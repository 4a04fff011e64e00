"""The kernels under `saecore.ops` in plain PyTorch, for any device; none records gradients.

Matrices here are latent-major: `encoder [d_sae, d_in]`, `matrix [d_sae, d]`.

Few entries are gathered, many are multiplied: gathering a row costs as much as 8 to 16 rows of a
dense product (more on a GPU), so above `DENSE` entries per cell a chunk of rows is made dense and
multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from saecore.ops.chunks import preactivation_chunks, row_chunks
from saecore.ops.codes import Codes, Pattern

BLOCK = 64
"""Size of the blocks whose maxima are compared first, if few entries of a row are selected."""

DENSE = 1 / 16
"""Density above which chunks are multiplied instead of gathered."""


def available() -> bool:
    """Runs wherever torch does."""
    return True


def supports(operation: str, *tensors: Tensor) -> bool:
    """Supports any device and precision."""
    return True


def is_faster(operation: str, *tensors: Tensor) -> bool:
    """The fallback when no other backend handles a call."""
    return True


def _top(ranked: Tensor, k: int) -> Tensor:
    """Columns of the k largest of each row `[N, k]`; ties go to the lowest column.

    torch.topk breaks ties arbitrarily. Computing one more value shows whether the k-th is tied with
    the next; only such rows are done again, by counting.
    """
    if k >= ranked.shape[1]:
        return torch.arange(ranked.shape[1], device=ranked.device).expand(len(ranked), -1)
    values, columns = _some_top(ranked, k + 1)
    tied = values[:, k - 1] == values[:, k]
    columns = columns[:, :k]
    if k and tied.any().cpu().numpy():  # no transfer on the CPU
        rows, kth = ranked[tied], values[tied, k - 1 : k]
        larger, equal = rows > kth, rows == kth
        missing = k - larger.sum(1, keepdim=True)
        chosen = larger | (equal & (equal.cumsum(1) <= missing))
        columns = columns.clone()
        columns[tied] = chosen.nonzero(as_tuple=True)[1].view(-1, k)
    return columns


def _some_top(ranked: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, descending, and their columns `[N, k]`; ties are arbitrary.

    They lie in the k blocks with the largest maxima: no entry of another block exceeds any of
    these k maxima.
    """
    n_rows, width = ranked.shape
    if width % BLOCK or k * BLOCK > width // 3:  # too few blocks would be skipped
        return ranked.topk(k, dim=1)
    blocks = ranked.contiguous().view(n_rows, -1, BLOCK)
    best = blocks.amax(-1).topk(k, dim=1, sorted=False).indices  # [N, k]
    block_rows = best + torch.arange(n_rows, device=ranked.device)[:, None] * (width // BLOCK)
    candidates = blocks.flatten(0, 1)[block_rows.view(-1)].view(n_rows, -1)  # [N, k * BLOCK]
    values, columns = candidates.topk(k, dim=1)
    return values, best.gather(1, columns // BLOCK) * BLOCK + columns % BLOCK


def choose_top(
    pre: Tensor,
    which: Tensor,
    k: int,
    scale: Tensor | None,
    by_abs: bool,
    values: Tensor,
    indices: Tensor,
) -> None:
    """Write the k best of some rows of a chunk into `values` and `indices` `[rows, k]`.

    Args:
        pre: the chunk `[rows, d_sae]`.
        which: the rows, bool.
        k: entries per row.
        scale: factor of the ranking `[d_sae]`.
        by_abs: rank by absolute value.
        values: the selected pre-activations.
        indices: their latents.
    """
    some = pre[which]
    ranked = some if scale is None else some * scale
    columns = _top(ranked.abs() if by_abs else ranked, k)
    indices[which] = columns
    values[which] = some.gather(1, columns)


def _ranking(scale: Tensor | None, by_abs: bool = False) -> Callable[[Tensor], Tensor]:
    """A function from a chunk of pre-activations to their ranks, in a reused buffer."""
    buffers: list[Tensor] = []

    def ranking(pre: Tensor) -> Tensor:
        if scale is None and not by_abs:
            return pre
        if not buffers:  # the first chunk is the largest
            buffers.append(torch.empty_like(pre))
        out = buffers[0][: len(pre)]
        if scale is None:
            return torch.abs(pre, out=out)
        torch.mul(pre, scale, out=out)
        return out.abs_() if by_abs else out

    return ranking


def select_topk(
    x: Tensor,
    encoder: Tensor,
    b_enc: Tensor,
    k: int,
    center: Tensor | None,
    scale: Tensor | None,
    by_abs: bool,
) -> tuple[Tensor, Pattern]:
    """Values `[N * k]` and pattern of the k best of each row."""
    d_sae = len(encoder)
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    ranking = _ranking(scale, by_abs)
    for chunk, pre in preactivation_chunks(x, encoder, b_enc, center):
        columns = _top(ranking(pre), k)
        indices[chunk] = columns
        torch.gather(pre, 1, columns, out=values[chunk])
    codes = Codes.from_top(values, indices, d_sae)
    return codes.values, codes.pattern


def select_batch_topk(
    x: Tensor,
    encoder: Tensor,
    b_enc: Tensor,
    n: int,
    center: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Pattern]:
    """Values `[n]` and pattern of the n best of the batch.

    A sample estimates a value that about 1.3 n entries exceed; if at least n do, the best n are
    among them. Otherwise every chunk contributes its n best.
    """
    d_sae = len(encoder)
    for sampled in (True, False):
        limit: Tensor | None = None
        ranks, values = [x.new_empty(0)], [x.new_empty(0)]
        cells = [torch.empty(0, dtype=torch.int64, device=x.device)]  # row * d_sae + latent
        ranking = _ranking(scale)
        for chunk, pre in preactivation_chunks(x, encoder, b_enc, center):
            ranked = ranking(pre).reshape(-1)
            if sampled:
                if limit is None:
                    limit = sampled_limit(ranked, n / (len(x) * d_sae))
                positions = (ranked > limit).nonzero(as_tuple=True)[0]
            else:
                positions = _top(ranked[None], min(n, len(ranked)))[0].sort().values
            ranks.append(ranked[positions])
            values.append(pre.reshape(-1)[positions])
            cells.append(positions + chunk.start * d_sae)
        candidates = torch.cat(ranks)
        if len(candidates) >= n:
            break
    best = _top(candidates[None], min(n, len(candidates)))[0].sort().values
    return torch.cat(values)[best], pattern_of(torch.cat(cells)[best], len(x), d_sae)


def sampled_limit(ranked: Tensor, share: float) -> Tensor:
    """A value that about 1.3 times `share` of the entries exceed, estimated from every 61st."""
    sample = ranked[:: 61 if len(ranked) > 61 * 4096 else 1]  # odd, so that all latents are sampled
    return sample.sort(descending=True).values[min(len(sample) - 1, int(1.3 * share * len(sample)))]


def select_group_max(
    x: Tensor, encoder: Tensor, b_enc: Tensor, groups: int, center: Tensor | None
) -> tuple[Tensor, Pattern]:
    """Values `[N * groups]` and pattern of the largest entry of each group."""
    d_sae = len(encoder)
    values = x.new_empty(len(x), groups)
    indices = torch.empty(len(x), groups, dtype=torch.int64, device=x.device)
    starts = torch.arange(0, d_sae, d_sae // groups, device=x.device)
    for chunk, pre in preactivation_chunks(x, encoder, b_enc, center):
        grouped = pre.unflatten(1, (groups, -1))
        largest = grouped.amax(-1, keepdim=True)
        indices[chunk] = (grouped == largest).byte().argmax(-1) + starts  # the first of equals
        values[chunk] = largest[..., 0]
    codes = Codes.from_top(values, indices, d_sae)
    return codes.values, codes.pattern


def select_above(
    x: Tensor, encoder: Tensor, b_enc: Tensor, threshold: float | Tensor, center: Tensor | None
) -> tuple[Tensor, Pattern]:
    """Values and pattern of every entry above the threshold."""
    d_sae = len(encoder)
    values, cells = [x.new_empty(0)], [torch.empty(0, dtype=torch.int64, device=x.device)]
    for chunk, pre in preactivation_chunks(x, encoder, b_enc, center):
        above = (pre > threshold).reshape(-1).nonzero(as_tuple=True)[0]
        values.append(pre.reshape(-1)[above])
        cells.append(above + chunk.start * d_sae)
    return torch.cat(values), pattern_of(torch.cat(cells), len(x), d_sae)


def pattern_of(cells: Tensor, n_rows: int, d_sae: int) -> Pattern:
    """The pattern of ascending cell numbers `row * d_sae + latent`."""
    bounds = torch.arange(n_rows + 1, device=cells.device) * d_sae
    return Pattern(cells % d_sae, torch.searchsorted(cells, bounds), d_sae)


def gather_sum(pattern: Pattern, values: Tensor, matrix: Tensor) -> Tensor:
    """For each row the sum of `values * matrix[latent]` `[N, d]`: codes @ matrix."""
    if pattern.density > DENSE:
        out = matrix.new_empty(pattern.n_rows, matrix.shape[1])
        for chunk, dense in _dense_chunks(pattern, values):
            torch.mm(dense, matrix, out=out[chunk])
        return out
    return _bags(pattern.indices, pattern.offsets, values, matrix)


def scatter_outer(pattern: Pattern, values: Tensor, rows: Tensor) -> Tensor:
    """For each latent the sum of `values * rows[row]` `[d_sae, d]`: codesᵀ @ rows."""
    if pattern.density > DENSE:
        out = rows.new_zeros(pattern.d_sae, rows.shape[1])
        for chunk, dense in _dense_chunks(pattern, values):
            out.addmm_(dense.t(), rows[chunk])
        return out
    order, starts = pattern.by_latent
    return _bags(pattern.rows[order], starts, values[order], rows)


def dot(pattern: Pattern, rows: Tensor, matrix: Tensor) -> Tensor:
    """For each entry `rows[row] · matrix[latent]` `[nnz]`."""
    if pattern.density > DENSE:
        out = rows.new_empty(len(pattern.indices))
        for chunk in row_chunks(pattern.n_rows, pattern.d_sae, rows.element_size()):
            low, high = pattern.offsets[[chunk.start, chunk.stop]].cpu().numpy()
            products = rows[chunk] @ matrix.t()
            at = (pattern.rows[low:high] - chunk.start, pattern.indices[low:high])
            out[low:high] = products[at]
        return out
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(  # type: ignore[no-any-return]
        rows.contiguous(), matrix, pattern.indices, pattern.offsets[:-1], pattern.rows, 0
    )


def latent_sum(pattern: Pattern, values: Tensor) -> Tensor:
    """For each latent the sum of its values `[d_sae]`."""
    return values.new_zeros(pattern.d_sae).index_add_(0, pattern.indices, values)


def group_by_latent(indices: Tensor, d_sae: int) -> tuple[Tensor, Tensor]:
    """Sort the entries by latent, stably: return their order `[nnz]` and each latent's start
    `[d_sae + 1]`.
    """
    order = torch.sort(indices, stable=True).indices
    starts = torch.zeros(d_sae + 1, dtype=torch.int64, device=indices.device)
    torch.cumsum(torch.bincount(indices, minlength=d_sae), 0, out=starts[1:])
    return order, starts


def _bags(indices: Tensor, offsets: Tensor, values: Tensor, matrix: Tensor) -> Tensor:
    return functional.embedding_bag(
        indices,
        matrix,
        offsets,
        mode="sum",
        per_sample_weights=values.to(matrix.dtype),
        include_last_offset=True,
    )


def _dense_chunks(pattern: Pattern, values: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Dense row chunks `[rows, d_sae]`."""
    for chunk in row_chunks(pattern.n_rows, pattern.d_sae, values.element_size()):
        low, high = pattern.offsets[[chunk.start, chunk.stop]].cpu().numpy()
        dense = values.new_zeros(chunk.stop - chunk.start, pattern.d_sae)
        dense[pattern.rows[low:high] - chunk.start, pattern.indices[low:high]] = values[low:high]
        yield chunk, dense
