"""Histograms of activations whose range is not known before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 64
"""Bins from 0 to the end of the range; at least half of them are below the largest value."""


class Histograms:
    """One histogram a latent, of bins that double their width when a value does not fit.

    Widths are powers of two, so that two bins become one exactly, and the counts are those of all
    values in the last width, in whichever order they came.

    Args:
        n: number of latents.
    """

    def __init__(self, n: int) -> None:
        self.counts = np.zeros((n, 2 * BINS), dtype=np.int64)
        """Counts of the bins from −BINS · width to BINS · width `[n, 2 · BINS]`."""
        self.exponents = np.full(n, -126)
        """Each latent's values are below 2^exponent in size `[n]`."""

    @property
    def widths(self) -> NDArray[np.float64]:
        """Width of each latent's bins `[n]`."""
        return np.asarray(np.ldexp(1.0 / BINS, self.exponents))

    def add(self, latents: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Count `values [nnz]` of `latents [nnz]`."""
        needed = self.exponents.copy()
        np.maximum.at(needed, latents, np.frexp(values)[1])
        for latent in np.flatnonzero(needed > self.exponents):
            shift = min(int(needed[latent] - self.exponents[latent]), 2 * BINS)
            place = (np.arange(-BINS, BINS) >> shift) + BINS
            self.counts[latent] = np.bincount(place, self.counts[latent], minlength=2 * BINS)
        self.exponents = needed
        place = np.floor(values / self.widths[latents]).astype(np.int64) + BINS
        np.add.at(self.counts, (latents, place), 1)
