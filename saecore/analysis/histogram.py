"""Histograms of activations whose range is not known in advance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 64
"""Bins on each side of 0; the largest value lies in the outer half of them."""


class Histograms:
    """One histogram per latent, whose bins double in width when a value does not fit.

    Widths are powers of two, so bins merge exactly in pairs: the final counts do not depend on the
    order of the values.

    Args:
        n: number of latents.
    """

    def __init__(self, n: int) -> None:
        self.counts = np.zeros((n, 2 * BINS), dtype=np.int64)
        """Counts of the bins from −BINS · width to BINS · width `[n, 2 · BINS]`."""
        self.exponents = np.full(n, -126)
        """All values of a latent are below 2^exponent in absolute value `[n]`."""

    @property
    def widths(self) -> NDArray[np.float64]:
        """Bin width of each latent `[n]`."""
        return np.asarray(np.ldexp(1.0 / BINS, self.exponents))

    def add(self, latents: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Count `values [nnz]` of `latents [nnz]`."""
        needed = self.exponents.copy()
        np.maximum.at(needed, latents, np.frexp(values)[1])
        for latent in np.flatnonzero(needed > self.exponents):
            shift = min(int(needed[latent] - self.exponents[latent]), 2 * BINS)
            merged = (np.arange(-BINS, BINS) >> shift) + BINS
            self.counts[latent] = np.bincount(merged, self.counts[latent], minlength=2 * BINS)
        self.exponents = needed
        bins = np.floor(values / self.widths[latents]).astype(np.int64) + BINS
        np.add.at(self.counts, (latents, bins), 1)
