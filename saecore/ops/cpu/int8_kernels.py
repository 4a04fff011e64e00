"""Kernels that select entries of an 8-bit integer product, and prove that the selection is exact.

An input row is c = α p + e with integers p in ±127, an encoder row is w = a q + r. Then
    c · w = α a (p · q) + (α p · r + e · w),
and by Cauchy-Schwarz the bracket is at most ‖α p‖ ‖r‖ + ‖e‖ ‖w‖. (Coordinates far larger than the
others are excluded from both; their part is added in float32.) So the integer product bounds every
rank; `SLACK` also covers the rounding of float32. Entries that may be among the best are computed
exactly; the others cannot be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from saecore.ops.cpu.selection import keep_top, kth_largest
from saecore.ops.cpu.sparse import dots
from saecore.ops.cpu.threads import kernel

Array = Any
"""A numpy array; numba sees the types."""

SLACK = 4e-6
"""Relative to ‖c‖ ‖w‖: above what float32 loses in practice in a product of some thousand terms."""


@kernel()
def approximate(
    product: Array, unit: Any, factor: Array, bias: Array, by_abs: bool, ranks: Array, maxima: Array
) -> None:
    """Approximate ranks of a row `[d_sae]`, and the largest of each group."""
    d_sae, groups = len(ranks), len(maxima)
    for i in range(groups):
        maxima[i] = -np.inf
    for low in range(0, d_sae, groups):
        p, f = product[low : low + groups], factor[low : low + groups]
        b, out = bias[low : low + groups], ranks[low : low + groups]
        for i in range(len(out)):
            rank = unit * (np.float32(p[i]) * f[i]) + b[i]
            rank = abs(rank) if by_abs else rank
            out[i] = rank
            maxima[i] = rank if rank > maxima[i] else maxima[i]


@kernel()
def may_reach(
    bound: Any,
    row: Array,
    ranks: Array,
    maxima: Array,
    factors: Array,
    widest: Array,
    hot: Array,
    latents: Array,
) -> int:
    """Write the latents whose rank may reach a bound, in ascending order; return their number.

    A first pass over the groups whose maximum may reach it uses the widest margin for rounding and
    has no branch on ranks: they are unpredictable, and a misprediction costs more than a look. A
    second pass uses each latent's own margin.

    Args:
        bound: the rank to reach.
        row: what `quantize` wrote for the row `[4]`.
        ranks: approximate ranks `[d_sae]`; inf is certainly above.
        maxima: largest rank of each group; the latents of a group are `groups` apart.
        factors: as in `top_screened`.
        widest: largest of each of `factors` `[4]`.
        hot: scratch space, one number per group.
        latents: `[d_sae + 1]`, written.
    """
    d_sae, groups = len(ranks), len(maxima)
    for_lost = (row[2] + row[1]) * np.float32(1 + 1e-5)
    for_norm = row[1] * np.float32(1 + 1e-5)
    for_whole = max(row[3], np.float32(1)) * np.float32(SLACK)
    most = for_lost * widest[1] + for_norm * widest[2] + for_whole * widest[3]
    lowest = bound - most - np.float32(1e-6) * (abs(bound) + most)
    reaching = 0
    for i in range(groups):
        if maxima[i] >= lowest:
            hot[reaching] = i
            reaching += 1
    near = 0
    for low in range(0, d_sae, groups):
        last = reaching
        while last and low + hot[last - 1] >= d_sae:
            last -= 1
        for i in range(last):
            latent = low + hot[i]
            latents[near] = latent
            near += ranks[latent] >= lowest
    size = 0
    for i in range(near):
        latent = latents[i]
        room = for_lost * factors[1, latent] + for_norm * factors[2, latent]
        room += for_whole * factors[3, latent]
        if ranks[latent] + room >= bound:
            latents[size] = latent
            size += 1
    return size


@kernel()
def row_maxima(factors: Array) -> Array:
    """The largest of each of the four rows of factors `[4, d_sae]`: `[4]`."""
    widest = np.empty(4, np.float32)
    for i in range(4):
        widest[i] = factors[i].max()
    return widest


@kernel()
def best_of_groups(ranks: Array, maxima: Array, bound: Any, k: int, latents: Array) -> None:
    """Write the latents of the first k group maxima that reach a bound."""
    d_sae, groups = len(ranks), len(maxima)
    count = 0
    for i in range(groups):
        if maxima[i] >= bound and count < k:
            for latent in range(i, d_sae, groups):
                if ranks[latent] == maxima[i]:
                    latents[count] = latent
                    break
            count += 1


@kernel()
def compute_exactly(
    line: Array, encoder: Array, b_enc: Array, latents: Array, size: int, out: Array, known: Array
) -> None:
    """Write the exact pre-activations of the first `size` latents to `known [d_sae]`.

    `out` is scratch space for `size` numbers.
    """
    dots(line, encoder, latents, size, out)
    for i in range(size):
        known[latents[i]] = out[i] + b_enc[latents[i]]


@kernel()
def least_rank(known: Array, scale: Array, by_abs: bool, latents: Array, k: int) -> Any:
    """The smallest exact rank of the first k latents."""
    least = np.float32(np.inf)
    for i in range(k):
        rank = known[latents[i]] * scale[latents[i]]
        least = min(least, abs(rank) if by_abs else rank)
    return least


@kernel()
def still_approximate(ranks: Array, latents: Array, size: int, out: Array) -> int:
    """Write those of the first `size` latents whose rank is not inf; return their number."""
    count = 0
    for i in range(size):
        if ranks[latents[i]] < np.inf:
            out[count] = latents[i]
            count += 1
    return count


@kernel()
def top_screened(
    start: int,
    stop: int,
    product: Array,
    rows: Array,
    table: Array,
    encoder: Array,
    b_enc: Array,
    scale: Array,
    factors: Array,
    offset: Array,
    by_abs: bool,
    k: int,
    groups: int,
    limit: int,
    values: Array,
    indices: Array,
    open_: Array,
) -> None:
    """Select the k best entries of each row, ordered by latent.

    First compute k entries that look best: the smallest of their ranks is a lower bound of the k-th
    best rank. Then compute every entry whose upper bound reaches it. A row stays `open_`, for the
    caller, if more than `limit` do. The arguments:
        product: of the integers `[rows, d_sae]`; rows: inputs `[rows, d_in]`.
        table: what `quantize` wrote for the inputs.
        encoder: `[d_sae, d_in]`; b_enc: `[d_sae]`; scale: factor of the ranks `[d_sae]`.
        factors: what `quantize` wrote for the encoder, times `scale`; the last row plus |b_enc|,
            which bounds what rounding can lose.
        offset: added to the product of each row, `[rows, d_sae]`, or of all, `[1, d_sae]`.
        groups: number of groups of latents in the search for a bound.
        limit: most entries of a row that are computed exactly.
        values, indices, open_: `[rows, k]`, `[rows, k]`, `[rows]`, written.
    """
    d_sae = len(encoder)
    ranks, spare = np.empty(d_sae, np.float32), np.empty(d_sae, np.float32)
    known = np.empty(d_sae, np.float32)  # exact pre-activations, where `ranks` is inf
    maxima, hot = np.empty(groups, np.float32), np.empty(groups, np.int64)
    latents, new = np.empty(d_sae + 1, np.int64), np.empty(limit, np.int64)
    exact, products = np.empty(limit, np.float32), np.empty(limit, np.float32)
    widest = row_maxima(factors)
    for row in range(start, stop):
        open_[row] = True
        if not table[3, row] < np.inf:
            continue
        line, bias = rows[row], offset[row % len(offset)]
        approximate(product[row], table[0, row], factors[0], bias, by_abs, ranks, maxima)
        spare[:groups] = maxima
        best_of_groups(ranks, maxima, kth_largest(spare, groups, k), k, new)
        compute_exactly(line, encoder, b_enc, new, k, products, known)
        least = least_rank(known, scale, by_abs, new, k)
        for i in range(k):
            ranks[new[i]] = np.inf
        if not abs(least) < np.inf:
            continue
        reaching = may_reach(least, table[:, row], ranks, maxima, factors, widest, hot, latents)
        if reaching > limit:
            continue
        fresh = still_approximate(ranks, latents, reaching, new)
        compute_exactly(line, encoder, b_enc, new, fresh, products, known)
        for i in range(reaching):
            rank = known[latents[i]] * scale[latents[i]]
            exact[i] = abs(rank) if by_abs else rank
        keep_top(exact, latents, reaching, k, spare, indices[row])
        for i in range(k):
            values[row, i] = known[indices[row, i]]
        open_[row] = False


@kernel()
def above_screened(
    start: int,
    stop: int,
    product: Array,
    rows: Array,
    table: Array,
    encoder: Array,
    b_enc: Array,
    scale: Array,
    factors: Array,
    offset: Array,
    threshold: Array,
    bound: Any,
    values: Array,
    indices: Array,
    counts: Array,
) -> None:
    """Select the entries of each row whose rank is above `bound`, ordered by latent.

    The rank is `(pre - threshold) * scale`; `offset` includes the threshold. Other arguments are
    as in `top_screened`; `values` and `indices` are `[rows, room]`, and `counts [rows]` is the
    number of entries, or -1 if they may not fit.
    """
    d_sae, limit = len(encoder), values.shape[1]
    groups = min(d_sae, 256)
    ranks = np.empty(d_sae, np.float32)
    maxima = np.empty(groups, np.float32)
    hot = np.empty(groups, np.int64)
    latents = np.empty(d_sae + 1, np.int64)
    products = np.empty(limit, np.float32)
    factor, widest = factors[0], row_maxima(factors)
    for row in range(start, stop):
        counts[row] = -1
        if not table[3, row] < np.inf:
            continue
        line, bias = rows[row], offset[row % len(offset)]
        approximate(product[row], table[0, row], factor, bias, False, ranks, maxima)
        size = may_reach(bound, table[:, row], ranks, maxima, factors, widest, hot, latents)
        if size > limit:
            continue
        dots(line, encoder, latents, size, products)
        count = 0
        for i in range(size):
            value = products[i] + b_enc[latents[i]]
            if (value - threshold[latents[i]]) * scale[latents[i]] > bound:
                values[row, count] = value
                indices[row, count] = latents[i]
                count += 1
        counts[row] = count
