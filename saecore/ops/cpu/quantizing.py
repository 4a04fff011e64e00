"""Quantize rows to 8-bit integers and measure the residual."""

from __future__ import annotations

from typing import Any

import numpy as np

from saecore.ops.cpu.threads import kernel

Array = Any
"""A numpy array; numba sees the types."""

LANES = 64
"""Coordinates of a row that are compared in parallel."""


@kernel(sums=True)
def quantize(
    start: int, stop: int, rows: Array, mask: Array, integers: Array, table: Array
) -> None:
    """Write each row as integers times a unit.

    Args:
        start: first row.
        stop: last row, excluded.
        rows: `[n, d]`.
        mask: 1, or 0 for excluded coordinates `[d]`.
        integers: `[n, d]`, int8; written.
        table: for each row the unit, the norm of the residual, the norm of the kept coordinates
            and the norm of the row `[4, n]`, written; not finite if the row is not.
    """
    d = rows.shape[1]
    lanes = np.empty(LANES, np.float32)
    for i in range(start, stop):
        line, out = rows[i], integers[i]
        lanes[:] = 0  # maxima per lane can be vectorized, a single maximum cannot
        for low in range(0, d, LANES):
            part, weights = line[low : low + LANES], mask[low : low + LANES]
            for c in range(len(part)):
                size = abs(part[c] * weights[c])
                lanes[c] = size if size > lanes[c] else lanes[c]
        largest, squares, whole = np.float32(0), np.float32(0), np.float32(0)
        for c in range(LANES):
            largest = lanes[c] if lanes[c] > largest else largest
        for c in range(d):
            value = line[c] * mask[c]
            squares += value * value
            whole += line[c] * line[c]
        step = largest / np.float32(127)
        inverse = np.float32(127) / largest if largest > 0 else np.float32(0)
        if not whole < np.inf:  # NaN or inf
            inverse = np.float32(0)
        left = np.float32(0)
        for c in range(d):
            value = line[c] * mask[c]
            number = np.rint(value * inverse)
            out[c] = np.int8(number)
            rest = value - step * number
            left += rest * rest
        table[0, i], table[1, i] = step, np.sqrt(left)
        table[2, i], table[3, i] = np.sqrt(squares), np.sqrt(whole)
