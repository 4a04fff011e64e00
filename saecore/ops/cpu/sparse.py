"""Kernels over the entries of codes: gather, sum and multiply rows of a matrix.

They process four entries at a time, so each sum is read and written once for four. Sums are in
the order of the entries, regardless of threads.
"""

from __future__ import annotations

from typing import Any

from saecore.ops.cpu.threads import kernel

Array = Any
"""A numpy array; numba sees the types."""


@kernel()
def sum_rows(
    start: int,
    stop: int,
    offsets: Array,
    numbers: Array,
    values: Array,
    matrix: Array,
    out: Array,
) -> None:
    """`out[i] = Σ values[e] * matrix[numbers[e]]` over the entries of i.

    Args:
        start: first i.
        stop: last i, excluded.
        offsets: start of the entries of each i, and the end.
        numbers: row of `matrix` for each entry.
        values: factor of each entry.
        matrix: `[rows, d]`.
        out: `[n, d]`.
    """
    d = matrix.shape[1]
    for i in range(start, stop):
        line = out[i]
        line[:] = 0
        at, end = offsets[i], offsets[i + 1]
        while at + 4 <= end:
            v0, v1, v2, v3 = values[at], values[at + 1], values[at + 2], values[at + 3]
            m0, m1 = matrix[numbers[at]], matrix[numbers[at + 1]]
            m2, m3 = matrix[numbers[at + 2]], matrix[numbers[at + 3]]
            for c in range(d):
                line[c] += (v0 * m0[c] + v1 * m1[c]) + (v2 * m2[c] + v3 * m3[c])
            at += 4
        while at < end:
            v0, m0 = values[at], matrix[numbers[at]]
            for c in range(d):
                line[c] += v0 * m0[c]
            at += 1


@kernel(sums=True)
def dots(line: Array, matrix: Array, numbers: Array, size: int, out: Array) -> None:
    """`out[i] = line · matrix[numbers[i]]` for the first `size` numbers."""
    d = len(line)
    at = 0
    while at + 4 <= size:
        m0, m1 = matrix[numbers[at]], matrix[numbers[at + 1]]
        m2, m3 = matrix[numbers[at + 2]], matrix[numbers[at + 3]]
        t0, t1, t2, t3 = line[0] * m0[0], line[0] * m1[0], line[0] * m2[0], line[0] * m3[0]
        for c in range(1, d):
            t0 += line[c] * m0[c]
            t1 += line[c] * m1[c]
            t2 += line[c] * m2[c]
            t3 += line[c] * m3[c]
        out[at], out[at + 1], out[at + 2], out[at + 3] = t0, t1, t2, t3
        at += 4
    while at < size:
        m0 = matrix[numbers[at]]
        t0 = line[0] * m0[0]
        for c in range(1, d):
            t0 += line[c] * m0[c]
        out[at] = t0
        at += 1


@kernel()
def dot_rows(
    start: int, stop: int, offsets: Array, indices: Array, rows: Array, matrix: Array, out: Array
) -> None:
    """`out[e] = rows[r] · matrix[indices[e]]` for the entries e of each row r."""
    for r in range(start, stop):
        low, high = offsets[r], offsets[r + 1]
        dots(rows[r], matrix, indices[low:high], high - low, out[low:high])


@kernel()
def sort_entries(indices: Array, starts: Array, order: Array) -> None:
    """Sort entries by latent, stably (counting sort).

    Args:
        indices: latent of each entry.
        starts: start of each latent in `order`, and the end `[d_sae + 1]`; must be zeros.
        order: indices of the entries, written.
    """
    for e in range(len(indices)):
        starts[indices[e] + 1] += 1
    for j in range(1, len(starts)):
        starts[j] += starts[j - 1]
    targets = starts[:-1].copy()
    for e in range(len(indices)):
        latent = indices[e]
        order[targets[latent]] = e
        targets[latent] += 1
