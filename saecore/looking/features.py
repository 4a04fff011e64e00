"""`saecore.features`: what activates the latents of an SAE, from one pass over a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from saecore.errors import DataError
from saecore.looking.examples import Examples, Kept, lots, sizes
from saecore.looking.histogram import BINS, Histograms

if TYPE_CHECKING:
    import pandas
    import torch

    from saecore.looking.entries import Entries
    from saecore.opening import Text
    from saecore.sae import SAE

TOKENS = 1_000_000
"""Tokens that are read of a run's text if nothing is said."""


@attrs.frozen(eq=False)
class Features:
    """What was seen of n latents of an SAE."""

    latents: NDArray[np.int64]
    """The latents `[n]`."""
    tokens: int
    """Tokens that the SAE read."""
    contexts: int
    """Contexts that were read."""
    fired: NDArray[np.int64]
    """On how many tokens every latent of the SAE fired `[d_sae]`."""
    together: NDArray[np.int64]
    """On how many tokens each latent fired together with every one of the SAE `[n, d_sae]`."""
    means: NDArray[np.float64]
    """Mean activation where it fires, 0 where it never does `[n]`."""
    counts: NDArray[np.int64]
    """Activations that are not 0 in bins of `widths`, from −64 to 64 of them `[n, 128]`."""
    widths: NDArray[np.float64]
    """Width of the bins, a power of two `[n]`."""
    top: Examples
    """The contexts with the largest activations `[n, top]`."""
    sampled: Examples
    """A uniform sample of the contexts in which it fires, largest first `[n, bands · samples]`."""
    bands: int
    """Parts of equal size that the sample is cut into: quantiles of its contexts' peaks."""
    tokenizer: Any = attrs.field(repr=False)
    """The model's tokenizer."""

    @property
    def density(self) -> NDArray[np.float64]:
        """Share of tokens on which each latent fires `[n]`."""
        return np.asarray(self.fired[self.latents] / max(1, self.tokens))

    def overlap(self) -> NDArray[np.float64]:
        """Tokens on which two latents fire together, over those on which either does `[n, d_sae]`.

        The Jaccard index; 0 for a latent with itself.
        """
        either = self.fired[self.latents][:, None] + self.fired[None, :] - self.together
        found = self.together / np.maximum(either, 1)
        found[np.arange(len(self.latents)), self.latents] = 0
        return np.asarray(found)

    def histogram(self, latent: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """One latent's activations that are not 0: counts `[b]` and edges `[b + 1]`.

        Raises:
            DataError: it is not among `latents`.
        """
        row = self._row(latent)
        bins = np.flatnonzero(self.counts[row])
        first, last = (min(BINS, int(bins[0])), int(bins[-1])) if len(bins) else (BINS, BINS)
        edges = np.arange(first - BINS, last - BINS + 2) * self.widths[row]
        return self.counts[row, first : last + 1], edges

    def frame(self) -> pandas.DataFrame:
        """One row a context: latent, kind ("top" or "sample"), rank, band (1 the highest; of
        samples), context, position, activation, token, tokens `[T]` and activations `[T]`.
        """
        from saecore.looking.frame import frame

        return frame(self)

    def _row(self, latent: int) -> int:
        found = np.flatnonzero(self.latents == latent)
        if not len(found):
            raise DataError(f"latent {latent} is not among the {len(self.latents)} looked at")
        return int(found[0])


def features(
    sae: SAE,
    source: str | Path | Text | Any,
    tokens: int | torch.Tensor | NDArray[Any] | None = None,
    *,
    latents: Sequence[int] | None = None,
    top: int = 20,
    bands: int = 5,
    samples: int = 4,
    batch_size: int = 32,
) -> Features:
    """Look at what activates the latents of an SAE.

    One pass over the text; memory does not grow with it. Besides the contexts that are kept
    (8 bytes for each of their tokens), `together` takes 8 bytes for each of n · d_sae pairs.

    Args:
        sae: the SAE; its metadata says where it reads the model.
        source: a run's directory, whose model and text are used (the text it trained on, in the
            same order); or a model: transformers', a TransformerLens bridge, a `ModelBackend`.
        tokens: of a run, how many tokens of its text (default 1,000,000, or all there are); of a
            model, the contexts `[contexts, T]`.
        latents: which latents; default: all.
        top: contexts with the largest activations, for each latent.
        bands: quantiles from which contexts are sampled.
        samples: contexts of each.
        batch_size: contexts per forward pass of the model.

    Raises:
        SaecoreError: model, text or latents are missing, or do not fit each other.
    """
    from saecore.looking.entries import entries

    text, wanted = _text(source, tokens, batch_size)
    length = text.contexts.context_size
    number = min(wanted, text.contexts.count(wanted))
    if number < 1:
        raise DataError(f"features: no context of {length} tokens to read; give more tokens")
    chosen = _chosen(latents, sae.cfg.d_sae)
    n, d_sae = len(chosen), sae.cfg.d_sae
    column = np.full(d_sae, -1, dtype=np.int64)
    column[chosen] = np.arange(n)
    fired, together = np.zeros(d_sae, dtype=np.int64), np.zeros((n, d_sae), dtype=np.int64)
    sums, histograms, read = np.zeros(n), Histograms(n), 0
    best, drawn = Kept(n, top, length), Kept(n, bands * samples, length)
    for batch in entries(sae, text.backend, text.contexts, number, text.seed, text.batch_size):
        read += batch.read
        fired += np.bincount(batch.latents, minlength=d_sae)
        own = batch.only(column)
        _count_pairs(together, own, batch)
        sums += np.bincount(own.latents, own.values, minlength=n)
        histograms.add(own.latents, own.values)
        size = sizes(own, n)
        best.add(own, size)
        lot = lots(chosen, own.first + np.arange(len(own.tokens)))
        drawn.add(own, np.where(size > 0, lot, -np.inf))
    return Features(
        chosen,
        read,
        number,
        fired,
        together,
        sums / np.maximum(1, fired[chosen]),
        histograms.counts,
        histograms.widths,
        best.examples(),
        drawn.examples(),
        bands,
        text.backend.tokenizer,
    )


def _count_pairs(together: NDArray[np.int64], own: Entries, batch: Entries) -> None:
    """Add how often two latents fire on one token: a sparse product of 0 and 1."""
    from scipy.sparse import csr_array

    height = batch.tokens.size

    def fires(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> Any:
        return csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=shape)

    left = fires(own.latents, own.cells, (len(together), height))
    found = (left @ fires(batch.cells, batch.latents, (height, together.shape[1]))).tocoo()
    together[found.row, found.col] += found.data


def _text(source: Any, tokens: Any, batch_size: int) -> tuple[Text, int]:
    """The model with its text, and how many contexts are asked for."""
    import torch

    from saecore.data.contexts import InOrder
    from saecore.language_model.given import backend_of
    from saecore.opening import Text, opened
    from saecore.plugins import current_host

    if isinstance(source, str | Path):
        source = opened(source).text()
    if isinstance(source, Text) and (tokens is None or isinstance(tokens, int)):
        wanted = (TOKENS if tokens is None else tokens) // source.contexts.context_size
        return attrs.evolve(source, batch_size=batch_size), wanted
    if isinstance(source, Text) or getattr(tokens, "ndim", 0) != 2:
        raise DataError(
            "features: expected a run's directory and a number of tokens, or a model and contexts "
            "of tokens [contexts, T]"
        )
    rows = torch.as_tensor(tokens).cpu().numpy()
    return Text(backend_of(source, current_host()), InOrder(rows), 0, batch_size), len(rows)


def _chosen(latents: Sequence[int] | None, d_sae: int) -> NDArray[np.int64]:
    if latents is None:
        return np.arange(d_sae)
    chosen = np.asarray(list(latents), dtype=np.int64)
    wrong = chosen[(chosen < 0) | (chosen >= d_sae)]
    if len(wrong) or len(set(chosen.tolist())) != len(chosen):
        got = f"got {wrong[0]}" if len(wrong) else "got one twice"
        raise DataError(f"features: expected different latents from 0 to {d_sae - 1}, {got}")
    return chosen
