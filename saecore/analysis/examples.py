"""Select contexts of every latent from a stream: the largest activations, or a random sample."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from saecore.analysis.firings import Firings

NONE = -1
"""Context number of an empty slot."""


@attrs.frozen(eq=False)
class Examples:
    """Up to m contexts for each of n latents."""

    contexts: NDArray[np.int64]
    """Index of the context in the text, −1 in empty slots `[n, m]`."""
    tokens: NDArray[np.int32]
    """Tokens of the contexts `[n, m, T]`."""
    values: NDArray[np.float32]
    """The latent's activation at each token `[n, m, T]`."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """First position with the largest |activation| `[n, m]`."""
        return np.asarray(np.abs(self.values).argmax(2))

    @property
    def peaks(self) -> NDArray[np.float32]:
        """The activation at `positions` `[n, m]`."""
        return np.asarray(np.take_along_axis(self.values, self.positions[..., None], 2)[..., 0])


def peak_sizes(firings: Firings, n: int) -> NDArray[np.float64]:
    """The largest |activation| of each latent in each context `[n, B]`; −inf if it never fires."""
    contexts, length = firings.tokens.shape
    peaks = np.full((n, contexts), -np.inf)
    np.maximum.at(peaks, (firings.latents, firings.cells // length), np.abs(firings.values))
    return peaks


class TopExamples:
    """The m contexts of every latent with the highest scores; ties go to the earlier context.

    Args:
        n: number of latents.
        m: contexts per latent.
        length: tokens per context T.
    """

    def __init__(self, n: int, m: int, length: int) -> None:
        self.scores = np.full((n, m), -np.inf)
        self.contexts = np.full((n, m), NONE, dtype=np.int64)
        self.tokens = np.zeros((n, m, length), dtype=np.int32)
        self.values = np.zeros((n, m, length), dtype=np.float32)

    def add(self, firings: Firings, scores: NDArray[np.float64]) -> None:
        """Offer a batch of contexts.

        Args:
            firings: the activations of the batch.
            scores: score of each latent in each context `[n, B]`; −inf is never selected.
        """
        n, m = self.scores.shape
        contexts, length = firings.tokens.shape
        improved = np.flatnonzero((scores > self.scores.min(1, keepdims=True)).any(1))
        numbers = np.broadcast_to(firings.first + np.arange(contexts), (len(improved), contexts))
        order = np.lexsort(
            (
                np.concatenate([self.contexts[improved], numbers], axis=1),
                -np.concatenate([self.scores[improved], scores[improved]], axis=1),
            )
        )
        stays = np.zeros(order.shape, dtype=bool)
        np.put_along_axis(stays, order[:, :m], True, axis=1)
        # In every row, as many slots are free as contexts are new: pair them up in order.
        row, slot = np.nonzero(~stays[:, :m])
        _, new = np.nonzero(stays[:, m:])
        latent = improved[row]
        self.scores[latent, slot] = scores[latent, new]
        self.contexts[latent, slot] = firings.first + new
        self.tokens[latent, slot] = firings.tokens[new]
        self.values[latent, slot] = 0
        slot_of = np.full((n, contexts), NONE)
        slot_of[latent, new] = slot
        slots = slot_of[firings.latents, firings.cells // length]
        selected = slots != NONE
        cells = (firings.latents[selected], slots[selected], firings.cells[selected] % length)
        self.values[cells] = firings.values[selected]

    def examples(self) -> Examples:
        """The selected contexts, sorted by falling |activation|; ties by context."""
        size = np.abs(self.values).max(2, initial=0)
        order = np.lexsort((self.contexts, -np.where(self.contexts == NONE, -np.inf, size)))
        return Examples(
            np.take_along_axis(self.contexts, order, 1),
            np.take_along_axis(self.tokens, order[..., None], 1),
            np.take_along_axis(self.values, order[..., None], 1),
        )


def uniform_scores(latents: NDArray[np.int64], contexts: NDArray[np.int64]) -> NDArray[np.float64]:
    """A pseudorandom number from [0, 1) for each latent and context `[n, B]`.

    It depends only on the two numbers, so the m contexts with the highest scores are a uniform
    sample that does not depend on batch size. The hash is SplitMix64's finalizer (Steele, Lea and
    Flood 2014).
    """
    mixed = latents.astype(np.uint64)[:, None] << np.uint64(40)
    mixed = mixed + contexts.astype(np.uint64)[None, :] + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
