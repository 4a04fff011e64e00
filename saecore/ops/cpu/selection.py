"""Kernels that select entries of a chunk of pre-activations `pre [rows, d_sae]`.

The rank is `pre * scale` or its absolute value. Rows with a NaN or an infinity are left to the
caller (`odd`), because comparisons are meaningless there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from saecore.ops.cpu.threads import kernel

Array = Any
"""A numpy array; numba sees the types."""


@kernel()
def kth_largest(values: Array, size: int, k: int) -> Any:
    """The k-th largest of the first `size` values, by quickselect; reorders them."""
    low, high, place = 0, size - 1, k - 1
    while low < high:
        a, b, c = values[low], values[(low + high) // 2], values[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            break
    return values[place]


@kernel()
def keep_top(ranks: Array, latents: Array, size: int, k: int, spare: Array, out: Array) -> None:
    """Write the latents of the k largest of some candidates, which are ordered by latent.

    Args:
        ranks: ranks of the candidates.
        latents: their latents, ascending.
        size: number of candidates, at least k.
        k: number of latents to select.
        spare: scratch space for `size` numbers.
        out: `[k]`, in the order of latents; ties go to the lowest.
    """
    spare[:size] = ranks[:size]
    kth = kth_largest(spare, size, k)
    larger = 0
    for i in range(size):
        larger += ranks[i] > kth
    equal, filled = k - larger, 0
    for i in range(size):
        if ranks[i] > kth:
            out[filled] = latents[i]
            filled += 1
        elif ranks[i] == kth and equal > 0:
            out[filled] = latents[i]
            filled += 1
            equal -= 1


@kernel()
def group_maxima(line: Array, scale: Array, by_abs: bool, maxima: Array, spare: Array) -> Any:
    """Write the largest rank of each group; return False if a rank is not a number.

    Args:
        line: pre-activations of a row `[d_sae]`.
        scale: `[d_sae]`.
        by_abs: rank by absolute value.
        maxima: `[groups]`.
        spare: scratch space for `groups` numbers.
    """
    d_sae, groups = len(line), len(maxima)
    zeros = spare[:groups]
    for i in range(groups):
        maxima[i] = -np.inf
        zeros[i] = 0
    for low in range(0, d_sae, groups):
        part, factor = line[low : low + groups], scale[low : low + groups]
        if by_abs:
            for i in range(len(part)):
                rank = abs(part[i] * factor[i])
                maxima[i] = rank if rank > maxima[i] else maxima[i]
                zeros[i] += rank - rank
        else:
            for i in range(len(part)):
                rank = part[i] * factor[i]
                maxima[i] = rank if rank > maxima[i] else maxima[i]
                zeros[i] += rank - rank  # NaN if the rank is not a number
    total = zeros[0]
    for i in range(1, groups):
        total += zeros[i]
    return total == 0


@kernel()
def top_rows(
    start: int,
    stop: int,
    pre: Array,
    scale: Array,
    by_abs: bool,
    k: int,
    groups: int,
    values: Array,
    indices: Array,
    odd: Array,
) -> None:
    """The k best of each row, ordered by latent.

    The k-th largest of the maxima of `groups` groups (latents that are equal modulo `groups`) is a
    lower bound of the k-th best; only entries that reach it are examined again.
    """
    d_sae = pre.shape[1]
    maxima = np.empty(groups, pre.dtype)
    spare = np.empty(d_sae, pre.dtype)
    ranks = np.empty(d_sae, pre.dtype)
    latents = np.empty(d_sae, np.int64)
    hot = np.empty(groups, np.int64)
    for row in range(start, stop):
        line = pre[row]
        odd[row] = not group_maxima(line, scale, by_abs, maxima, spare)
        if odd[row]:
            continue
        spare[:groups] = maxima
        bound = kth_largest(spare, groups, k)
        reaching = 0
        for i in range(groups):
            if maxima[i] >= bound:
                hot[reaching] = i
                reaching += 1
        count = 0
        for low in range(0, d_sae, groups):  # in the order of latents
            for i in range(reaching):
                latent = low + hot[i]
                if latent >= d_sae:
                    break
                rank = line[latent] * scale[latent]
                rank = abs(rank) if by_abs else rank
                if rank >= bound:
                    ranks[count] = rank
                    latents[count] = latent
                    count += 1
        keep_top(ranks, latents, count, k, spare, indices[row])
        for i in range(k):
            values[row, i] = line[indices[row, i]]


@kernel()
def group_rows(
    start: int, stop: int, pre: Array, values: Array, indices: Array, odd: Array
) -> None:
    """Select the largest of each block of latents, ties to the first; `odd` marks NaNs."""
    groups = values.shape[1]
    width = pre.shape[1] // groups
    for row in range(start, stop):
        odd[row] = False
        for group in range(groups):
            line = pre[row, group * width : (group + 1) * width]
            best, place = line[0], 0
            odd[row] |= best != best
            for i in range(1, width):
                if not line[i] <= best:  # rarely true
                    odd[row] |= line[i] != line[i]
                    best, place = line[i], i
            values[row, group] = best
            indices[row, group] = group * width + place


@kernel()
def pack(
    start: int,
    stop: int,
    values: Array,
    latents: Array,
    starts: Array,
    counts: Array,
    packed_values: Array,
    packed_latents: Array,
) -> None:
    """Pack the first `counts[row]` entries of each row without gaps.

    Args:
        start: first row.
        stop: last row, excluded.
        values: `[rows, room]`.
        latents: `[rows, room]`.
        starts: destination of each row.
        counts: number of entries of each row.
        packed_values: `[nnz]`, written.
        packed_latents: `[nnz]`, written.
    """
    for row in range(start, stop):
        low = starts[row]
        for i in range(counts[row]):
            packed_values[low + i] = values[row, i]
            packed_latents[low + i] = latents[row, i]
