"""Rows as integers of 8 bits, and what that leaves over."""

from __future__ import annotations

from typing import Any

import numpy as np

from saecore.ops.compiled.threads import kernel

Array = Any
"""A numpy array; numba sees the types."""

LANES = 64
"""Coordinates of a row that are looked at side by side."""


@kernel(sums=True)
def quantize(
    start: int, stop: int, rows: Array, kept: Array, integers: Array, table: Array
) -> None:
    """Each row as integers times a unit.

    Args:
        start: first row.
        stop: last row, excluded.
        rows: `[n, d]`.
        kept: 1, or 0 for coordinates that are left out `[d]`.
        integers: `[n, d]`, int8; written.
        table: of each row the unit, the norm of what the integers leave over, the norm of what
            is kept, the norm of it all; written `[4, n]`; not finite where the row is not.
    """
    d = rows.shape[1]
    lanes = np.empty(LANES, np.float32)
    for i in range(start, stop):
        line, out = rows[i], integers[i]
        lanes[:] = 0  # a maximum of each lane is a vector's work, one of them all is not
        for low in range(0, d, LANES):
            part, weights = line[low : low + LANES], kept[low : low + LANES]
            for c in range(len(part)):
                size = abs(part[c] * weights[c])
                lanes[c] = size if size > lanes[c] else lanes[c]
        largest, squares, whole = np.float32(0), np.float32(0), np.float32(0)
        for c in range(LANES):
            largest = lanes[c] if lanes[c] > largest else largest
        for c in range(d):
            value = line[c] * kept[c]
            squares += value * value
            whole += line[c] * line[c]
        step = largest / np.float32(127)
        inverse = np.float32(127) / largest if largest > 0 else np.float32(0)
        if not whole < np.inf:  # NaN or inf
            inverse = np.float32(0)
        left = np.float32(0)
        for c in range(d):
            value = line[c] * kept[c]
            number = np.rint(value * inverse)
            out[c] = np.int8(number)
            rest = value - step * number
            left += rest * rest
        table[0, i], table[1, i] = step, np.sqrt(left)
        table[2, i], table[3, i] = np.sqrt(squares), np.sqrt(whole)
