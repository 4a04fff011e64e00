"""Some contexts of every latent, chosen while they stream by."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from saecore.looking.entries import Entries

NONE = -1
"""The number of the context in a place that is left empty."""


@attrs.frozen(eq=False)
class Examples:
    """m contexts for each of n latents."""

    contexts: NDArray[np.int64]
    """Number of the context in the text that was read, or −1 where there were fewer `[n, m]`."""
    tokens: NDArray[np.int32]
    """Its tokens `[n, m, T]`."""
    values: NDArray[np.float32]
    """The latent's activation at each `[n, m, T]`."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where the activation is largest in size, the first such token `[n, m]`."""
        return np.asarray(np.abs(self.values).argmax(2))

    @property
    def peaks(self) -> NDArray[np.float32]:
        """The activation there `[n, m]`."""
        found = np.take_along_axis(self.values, self.positions[..., None], 2)[..., 0]
        return np.asarray(found)


def sizes(entries: Entries, n: int) -> NDArray[np.float64]:
    """The largest |activation| of each latent in each context `[n, B]`; −inf where it is off."""
    contexts, length = entries.tokens.shape
    found = np.full((n, contexts), -np.inf)
    np.maximum.at(found, (entries.latents, entries.cells // length), np.abs(entries.values))
    return found


class Kept:
    """The m contexts of every latent with the highest scores; of equal ones the first read.

    Args:
        n: number of latents.
        m: contexts kept for each.
        length: tokens of a context T.
    """

    def __init__(self, n: int, m: int, length: int) -> None:
        self.scores = np.full((n, m), -np.inf)
        self.contexts = np.full((n, m), NONE, dtype=np.int64)
        self.tokens = np.zeros((n, m, length), dtype=np.int32)
        self.values = np.zeros((n, m, length), dtype=np.float32)

    def add(self, entries: Entries, scores: NDArray[np.float64]) -> None:
        """Offer a batch of contexts with their scores `[n, B]`; −inf is never kept."""
        n, m = self.scores.shape
        contexts, length = entries.tokens.shape
        hopeful = np.flatnonzero((scores > self.scores.min(1, keepdims=True)).any(1))
        numbers = np.broadcast_to(entries.first + np.arange(contexts), (len(hopeful), contexts))
        order = np.lexsort(
            (
                np.concatenate([self.contexts[hopeful], numbers], axis=1),
                -np.concatenate([self.scores[hopeful], scores[hopeful]], axis=1),
            )
        )
        stays = np.zeros(order.shape, dtype=bool)
        np.put_along_axis(stays, order[:, :m], True, axis=1)
        # In every row as many places are left as contexts are new: they pair up in order.
        row, place = np.nonzero(~stays[:, :m])
        _, new = np.nonzero(stays[:, m:])
        latent = hopeful[row]
        self.scores[latent, place] = scores[latent, new]
        self.contexts[latent, place] = entries.first + new
        self.tokens[latent, place] = entries.tokens[new]
        self.values[latent, place] = 0
        goes_to = np.full((n, contexts), NONE)
        goes_to[latent, new] = place
        to = goes_to[entries.latents, entries.cells // length]
        kept = to != NONE
        at = (entries.latents[kept], to[kept], entries.cells[kept] % length)
        self.values[at] = entries.values[kept]

    def examples(self) -> Examples:
        """What is kept, the largest activation first, of equal ones the first read."""
        size = np.abs(self.values).max(2, initial=0)
        order = np.lexsort((self.contexts, -np.where(self.contexts == NONE, -np.inf, size)))
        return Examples(
            np.take_along_axis(self.contexts, order, 1),
            np.take_along_axis(self.tokens, order[..., None], 1),
            np.take_along_axis(self.values, order[..., None], 1),
        )


def lots(latents: NDArray[np.int64], contexts: NDArray[np.int64]) -> NDArray[np.float64]:
    """A number drawn from [0, 1) for each latent and context `[n, B]`, a function of the two.

    The m contexts with the highest numbers are a uniform sample, whatever the batches. The mixing
    is SplitMix64's (Steele, Lea and Flood 2014).
    """
    mixed = latents.astype(np.uint64)[:, None] << np.uint64(40)
    mixed = mixed + contexts.astype(np.uint64)[None, :] + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
