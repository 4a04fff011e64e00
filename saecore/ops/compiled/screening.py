"""Kernels that choose entries from a product in 8-bit integers, and prove the choice.

A row of inputs is c = α p + e with integers p in ±127, a row of the encoder w = a q + r. Then
    c · w = α a (p · q) + (α p · r + e · w),
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


@kernel(sums=True)
def quantize(
    start: int, stop: int, rows: Array, integers: Array, unit: Array, lost: Array, norm: Array
) -> None:
    """Each row as integers times a unit.

    Args:
        start: first row.
        stop: last row, excluded.
        rows: `[n, d]`.
        integers: `[n, d]`, int8; written.
        unit: of each row; written.
        lost: norm of what the integers leave over; written.
        norm: of the row; written; not finite where the row is not.
    """
    d = rows.shape[1]
    for i in range(start, stop):
        line, out = rows[i], integers[i]
        largest, squares = abs(line[0]), line[0] * line[0]
        for c in range(1, d):
            size = abs(line[c])
            largest = size if size > largest else largest
            squares += line[c] * line[c]
        step = largest / np.float32(127)
        inverse = np.float32(127) / largest if largest > 0 else np.float32(0)
        if not squares < np.inf:  # NaN or inf
            inverse = np.float32(0)
        left = np.float32(0)
        for c in range(d):
            number = np.rint(line[c] * inverse)
            out[c] = np.int8(number)
            rest = line[c] - step * number
            left += rest * rest
        unit[i], lost[i], norm[i] = step, np.sqrt(left), np.sqrt(squares)


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
def top_screened(
    start: int,
    stop: int,
    product: Array,
    rows: Array,
    row_unit: Array,
    row_lost: Array,
    row_norm: Array,
    encoder: Array,
    b_enc: Array,
    scale: Array,
    factor: Array,
    bias: Array,
    lost: Array,
    norm: Array,
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
    whose upper bound reaches it. Arrays of the encoder are multiplied by `scale` where they
    bound ranks (`factor`, `bias`, `lost`, `norm`).
    """
    d_sae = len(encoder)
    ranks = np.empty(d_sae, np.float32)
    maxima = np.empty(groups, np.float32)
    spare = np.empty(d_sae, np.float32)
    hot = np.empty(groups, np.int64)
    latents = np.empty(limit, np.int64)
    new = np.empty(limit, np.int64)
    exact = np.empty(limit, np.float32)
    products = np.empty(limit, np.float32)
    known = np.empty(d_sae, np.float32)  # exact, where `ranks` is inf
    widest_lost = np.float32(0)
    widest_norm = np.float32(0)
    widest_bias = np.float32(0)
    for j in range(d_sae):
        widest_lost = max(widest_lost, lost[j])
        widest_norm = max(widest_norm, norm[j])
        widest_bias = max(widest_bias, abs(bias[j]))
    for row in range(start, stop):
        open_[row] = True
        if not row_norm[row] < np.inf:
            continue
        line = rows[row]
        approximate(product[row], row_unit[row], factor, bias, by_abs, ranks, maxima)
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
        for_lost = (row_norm[row] + row_lost[row]) * np.float32(1 + 1e-5)
        for_norm = row_lost[row] * np.float32(1 + 1e-5) + np.float32(SLACK) * row_norm[row]
        widest = for_lost * widest_lost + for_norm * widest_norm + np.float32(SLACK) * widest_bias
        reaching = 0
        for i in range(groups):
            if maxima[i] >= least - widest:
                hot[reaching] = i
                reaching += 1
        found = 0
        for low in range(0, d_sae, groups):  # in the order of latents
            for i in range(reaching):
                latent = low + hot[i]
                if latent >= d_sae:
                    break
                if ranks[latent] + widest < least:
                    continue
                room = for_lost * lost[latent] + for_norm * norm[latent]
                room += np.float32(SLACK) * abs(bias[latent])
                if ranks[latent] + room >= least:
                    if found < limit:
                        latents[found] = latent
                    found += 1
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
    row_unit: Array,
    row_lost: Array,
    row_norm: Array,
    encoder: Array,
    b_enc: Array,
    scale: Array,
    factor: Array,
    bias: Array,
    lost: Array,
    norm: Array,
    bound: Any,
    values: Array,
    indices: Array,
    found: Array,
) -> None:
    """Entries of each row whose rank is above `bound`, in the order of latents.

    Arguments as for `top_screened`; `values` and `indices` are `[rows, room]`, and `found [rows]`
    says how many there are, or -1 where they may not fit.
    """
    d_sae, limit = len(encoder), values.shape[1]
    groups = min(d_sae, 256)
    ranks = np.empty(d_sae, np.float32)
    maxima = np.empty(groups, np.float32)
    hot = np.empty(groups, np.int64)
    latents = np.empty(limit, np.int64)
    products = np.empty(limit, np.float32)
    widest_lost = np.float32(0)
    widest_norm = np.float32(0)
    widest_bias = np.float32(0)
    for j in range(d_sae):
        widest_lost = max(widest_lost, lost[j])
        widest_norm = max(widest_norm, norm[j])
        widest_bias = max(widest_bias, abs(bias[j]))
    for row in range(start, stop):
        found[row] = -1
        if not row_norm[row] < np.inf:
            continue
        line = rows[row]
        approximate(product[row], row_unit[row], factor, bias, False, ranks, maxima)
        for_lost = (row_norm[row] + row_lost[row]) * np.float32(1 + 1e-5)
        for_norm = row_lost[row] * np.float32(1 + 1e-5) + np.float32(SLACK) * row_norm[row]
        widest = for_lost * widest_lost + for_norm * widest_norm + np.float32(SLACK) * widest_bias
        reaching = 0
        for i in range(groups):
            if maxima[i] >= bound - widest:
                hot[reaching] = i
                reaching += 1
        size = 0
        for low in range(0, d_sae, groups):
            for i in range(reaching):
                latent = low + hot[i]
                if latent >= d_sae:
                    break
                if ranks[latent] + widest < bound:
                    continue
                room = for_lost * lost[latent] + for_norm * norm[latent]
                room += np.float32(SLACK) * abs(bias[latent])
                if ranks[latent] + room >= bound:
                    if size < limit:
                        latents[size] = latent
                    size += 1
        if size > limit:
            continue
        dots(line, encoder, latents, size, products)
        kept = 0
        for i in range(size):
            value = products[i] + b_enc[latents[i]]
            if value * scale[latents[i]] > bound:
                values[row, kept] = value
                indices[row, kept] = latents[i]
                kept += 1
        found[row] = kept
