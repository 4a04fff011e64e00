"""Kernels that choose entries from a product in 8-bit integers, and prove the choice.

A row of inputs is c = α p + e with integers p in ±127, a row of the encoder w = a q + r. Then
    c · w = α a (p · q) + (α p · r + e · w),
(coordinates far larger than the others are left out of both, and their part is added in float32)
and by Cauchy and Schwarz the bracket is at most ‖α p‖ ‖r‖ + ‖e‖ ‖w‖. What is ranked is known up to
that; `SLACK` more covers the rounding of float32. Entries that may be among the best are
computed exactly, the others cannot be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from saecore.ops.compiled.selection import keep_top, kth_largest
from saecore.ops.compiled.sparse import dots
from saecore.ops.compiled.threads import kernel

Array = Any
"""A numpy array; numba sees the types."""

SLACK = 4e-6
"""Relative to ‖c‖ ‖w‖: above what float32 loses in a product of some thousand terms in practice."""


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
    found: Array,
) -> int:
    """Write the latents whose rank may reach a bound, in their order; return how many.

    In the groups whose maximum may, first all with the widest room for rounding: without a branch
    on a rank, because which reach it cannot be foreseen and a wrong guess costs more than a look.
    Of these then all with their own room.

    Args:
        bound: the rank that counts.
        row: what `quantize` wrote of the row `[4]`.
        ranks: approximate ranks `[d_sae]`; inf is surely above.
        maxima: largest rank of each group; a group's latents are as far apart as there are groups.
        factors: as of `top_screened`.
        widest: largest of each of `factors` `[4]`.
        hot: room for a number of each group.
        found: room for `d_sae + 1`; written.
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
            found[near] = latent
            near += ranks[latent] >= lowest
    size = 0
    for i in range(near):
        latent = found[i]
        room = for_lost * factors[1, latent] + for_norm * factors[2, latent]
        room += for_whole * factors[3, latent]
        if ranks[latent] + room >= bound:
            found[size] = latent
            size += 1
    return size


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
    """The k best of each row, in the order of latents; `open_` where more than `limit` may be.

    First the k that look best are computed: the least of them bounds the k-th from below. Then all
    whose upper bound reaches it.

    Args:
        start: first row.
        stop: last row, excluded.
        product: of the integers `[rows, d_sae]`.
        rows: inputs `[rows, d_in]`.
        table: what `quantize` wrote of them.
        encoder: `[d_sae, d_in]`.
        b_enc: `[d_sae]`.
        scale: factor of the ranking `[d_sae]`.
        factors: what `quantize` wrote of the encoder, times `scale`; the last row plus |b_enc|:
            what rounding can lose.
        offset: what is added to the product of each row, `[rows, d_sae]`, or of all, `[1, d_sae]`.
        by_abs: rank by absolute value.
        k: entries per row.
        groups: number of groups in the search for a first bound.
        limit: the most entries of a row that are computed exactly.
        values: `[rows, k]`, written.
        indices: `[rows, k]`, written.
        open_: `[rows]`, written.
    """
    d_sae = len(encoder)
    ranks = np.empty(d_sae, np.float32)
    maxima = np.empty(groups, np.float32)
    spare = np.empty(d_sae, np.float32)
    hot = np.empty(groups, np.int64)
    latents = np.empty(d_sae + 1, np.int64)
    new = np.empty(limit, np.int64)
    exact = np.empty(limit, np.float32)
    products = np.empty(limit, np.float32)
    known = np.empty(d_sae, np.float32)  # exact, where `ranks` is inf
    factor, widest = factors[0], np.empty(4, np.float32)
    for i in range(4):
        widest[i] = factors[i].max()
    for row in range(start, stop):
        open_[row] = True
        if not table[3, row] < np.inf:
            continue
        line, bias = rows[row], offset[row % len(offset)]
        approximate(product[row], table[0, row], factor, bias, by_abs, ranks, maxima)
        spare[:groups] = maxima
        bound = kth_largest(spare, groups, k)
        # Of exactly computed ranks, the least of k is a lower bound of the k-th best.
        found = 0
        for i in range(groups):
            if maxima[i] >= bound and found < k:
                for latent in range(i, d_sae, groups):
                    if ranks[latent] == maxima[i]:
                        new[found] = latent
                        break
                found += 1
        dots(line, encoder, new, k, products)
        least = np.float32(np.inf)
        for i in range(k):
            latent = new[i]
            known[latent] = products[i] + b_enc[latent]
            rank = known[latent] * scale[latent]
            least = min(least, abs(rank) if by_abs else rank)
            ranks[latent] = np.inf
        if not abs(least) < np.inf:
            continue
        found = may_reach(least, table[:, row], ranks, maxima, factors, widest, hot, latents)
        if found > limit:
            continue
        fresh = 0
        for i in range(found):
            if ranks[latents[i]] < np.inf:
                new[fresh] = latents[i]
                fresh += 1
        dots(line, encoder, new, fresh, products)
        for i in range(fresh):
            known[new[i]] = products[i] + b_enc[new[i]]
        for i in range(found):
            rank = known[latents[i]] * scale[latents[i]]
            exact[i] = abs(rank) if by_abs else rank
        keep_top(exact, latents, found, k, spare, indices[row])
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
    found: Array,
) -> None:
    """Entries of each row whose rank is above `bound`, in the order of latents.

    What is ranked is `(pre - threshold) * scale`; `offset` has the threshold in it. Other arguments
    as for `top_screened`; `values` and `indices` are `[rows, room]`, and `found [rows]` says how
    many there are, or -1 where they may not fit.
    """
    d_sae, limit = len(encoder), values.shape[1]
    groups = min(d_sae, 256)
    ranks = np.empty(d_sae, np.float32)
    maxima = np.empty(groups, np.float32)
    hot = np.empty(groups, np.int64)
    latents = np.empty(d_sae + 1, np.int64)
    products = np.empty(limit, np.float32)
    factor, widest = factors[0], np.empty(4, np.float32)
    for i in range(4):
        widest[i] = factors[i].max()
    for row in range(start, stop):
        found[row] = -1
        if not table[3, row] < np.inf:
            continue
        line, bias = rows[row], offset[row % len(offset)]
        approximate(product[row], table[0, row], factor, bias, False, ranks, maxima)
        size = may_reach(bound, table[:, row], ranks, maxima, factors, widest, hot, latents)
        if size > limit:
            continue
        dots(line, encoder, latents, size, products)
        kept = 0
        for i in range(size):
            value = products[i] + b_enc[latents[i]]
            if (value - threshold[latents[i]]) * scale[latents[i]] > bound:
                values[row, kept] = value
                indices[row, kept] = latents[i]
                kept += 1
        found[row] = kept
