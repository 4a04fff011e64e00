"""`saecore.features`: find what activates the latents of an SAE, in one pass over a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from saecore.analysis.examples import Examples, TopExamples, peak_sizes, uniform_scores
from saecore.analysis.histogram import BINS, Histograms
from saecore.errors import DataError

if TYPE_CHECKING:
    import pandas
    import torch

    from saecore.analysis.firings import Firings
    from saecore.analysis.text import ModelText
    from saecore.core.sae import SAE

DEFAULT_TOKENS = 1_000_000
"""Tokens to read of a run's text by default."""


@attrs.frozen(eq=False, kw_only=True)
class Features:
    """Statistics and example contexts of n latents of an SAE."""

    latents: NDArray[np.int64]
    """The latents `[n]`."""
    tokens: int
    """Tokens that the SAE read."""
    contexts: int
    """Contexts that the model read."""
    fired: NDArray[np.int64]
    """Number of tokens on which each latent of the SAE fired `[d_sae]`."""
    together: NDArray[np.int64]
    """Number of tokens on which each latent fired together with each of the SAE `[n, d_sae]`."""
    means: NDArray[np.float64]
    """Mean activation over tokens on which a latent fires, 0 if it never does `[n]`."""
    counts: NDArray[np.int64]
    """Histogram of nonzero activations, in bins of `widths` from −64 to 64 bins `[n, 128]`."""
    widths: NDArray[np.float64]
    """Bin width of each histogram, a power of two `[n]`."""
    top: Examples
    """The contexts with the largest activations `[n, top]`."""
    sampled: Examples
    """A uniform sample of the contexts with activations, largest first `[n, bands · samples]`."""
    bands: int
    """Number of equal parts of the sample, which are quantiles of its peak activations."""
    tokenizer: Any = attrs.field(repr=False)
    """The model's tokenizer."""

    @property
    def density(self) -> NDArray[np.float64]:
        """Fraction of tokens on which each latent fires `[n]`."""
        return np.asarray(self.fired[self.latents] / max(1, self.tokens))

    def overlap(self) -> NDArray[np.float64]:
        """Jaccard index of the tokens on which two latents fire `[n, d_sae]`.

        Tokens on which both fire over tokens on which either fires; 0 for a latent with itself.
        """
        either = self.fired[self.latents][:, None] + self.fired[None, :] - self.together
        overlap = self.together / np.maximum(either, 1)
        overlap[np.arange(len(self.latents)), self.latents] = 0
        return np.asarray(overlap)

    def histogram(self, latent: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Histogram of one latent's nonzero activations: counts `[b]` and edges `[b + 1]`.

        Raises:
            DataError: the latent is not among `latents`.
        """
        row = self._row(latent)
        bins = np.flatnonzero(self.counts[row])
        first, last = (min(BINS, int(bins[0])), int(bins[-1])) if len(bins) else (BINS, BINS)
        edges = np.arange(first - BINS, last - BINS + 2) * self.widths[row]
        return self.counts[row, first : last + 1], edges

    def frame(self) -> pandas.DataFrame:
        """The examples as a data frame, one row per context.

        Columns: latent, kind ("top" or "sample"), rank, band (of samples; 1 is the highest),
        context, position, activation, token, tokens `[T]` and activations `[T]`.
        """
        from saecore.analysis.dataframe import frame

        return frame(self)

    def _row(self, latent: int) -> int:
        rows = np.flatnonzero(self.latents == latent)
        if not len(rows):
            raise DataError(f"latent {latent} is not among the {len(self.latents)} latents here")
        return int(rows[0])


def features(
    sae: SAE,
    source: str | Path | ModelText | Any,
    tokens: int | torch.Tensor | NDArray[Any] | None = None,
    *,
    latents: Sequence[int] | None = None,
    top: int = 20,
    bands: int = 5,
    samples: int = 4,
    batch_size: int = 32,
) -> Features:
    """Find what activates the latents of an SAE.

    Makes one pass over the text; memory does not grow with its length. The examples take 8 bytes
    per token, and `together` 8 bytes for each of n · d_sae pairs.

    Args:
        sae: the SAE; its metadata names the hooks that it reads.
        source: the directory of a run, whose model and training text are read in the order of
            training; or a transformers model, a TransformerLens bridge or a `ModelBackend`.
        tokens: with a run, the number of tokens to read (default: 1,000,000, or the whole text);
            with a model, the contexts `[contexts, T]`.
        latents: latents to analyze; default: all.
        top: number of contexts with the largest activations, per latent.
        bands: number of quantiles for sampling contexts.
        samples: sampled contexts per band.
        batch_size: contexts per forward pass of the model.

    Raises:
        SaecoreError: the model, text or latents are missing or do not fit the SAE.
    """
    from saecore.analysis.firings import iter_firings

    text, requested = _text(source, tokens, batch_size)
    length = text.contexts.context_size
    number = min(requested, text.contexts.count(requested))
    if number < 1:
        raise DataError(f"features: no context of {length} tokens to read; pass more tokens")
    selected = _selected(latents, sae.cfg.d_sae)
    n, d_sae = len(selected), sae.cfg.d_sae
    column = np.full(d_sae, -1, dtype=np.int64)
    column[selected] = np.arange(n)
    fired, together = np.zeros(d_sae, dtype=np.int64), np.zeros((n, d_sae), dtype=np.int64)
    sums, histograms, read = np.zeros(n), Histograms(n), 0
    largest, sampled = TopExamples(n, top, length), TopExamples(n, bands * samples, length)
    for batch in iter_firings(sae, text.backend, text.contexts, number, text.seed, text.batch_size):
        read += batch.read
        fired += np.bincount(batch.latents, minlength=d_sae)
        firings = batch.only(column)
        _count_pairs(together, firings, batch)
        sums += np.bincount(firings.latents, firings.values, minlength=n)
        histograms.add(firings.latents, firings.values)
        size = peak_sizes(firings, n)
        largest.add(firings, size)
        lots = uniform_scores(selected, firings.first + np.arange(len(firings.tokens)))
        sampled.add(firings, np.where(size > 0, lots, -np.inf))
    return Features(
        latents=selected,
        tokens=read,
        contexts=number,
        fired=fired,
        together=together,
        means=sums / np.maximum(1, fired[selected]),
        counts=histograms.counts,
        widths=histograms.widths,
        top=largest.examples(),
        sampled=sampled.examples(),
        bands=bands,
        tokenizer=text.backend.tokenizer,
    )


def _count_pairs(together: NDArray[np.int64], firings: Firings, batch: Firings) -> None:
    """Count tokens on which two latents fire, by a product of sparse 0/1 matrices.

    Args:
        together: counts to add to `[n, d_sae]`.
        firings: those of the n latents.
        batch: those of all latents.
    """
    from scipy.sparse import csr_array

    n_tokens = batch.tokens.size

    def fires(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> Any:
        return csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=shape)

    left = fires(firings.latents, firings.cells, (len(together), n_tokens))
    counts = (left @ fires(batch.cells, batch.latents, (n_tokens, together.shape[1]))).tocoo()
    together[counts.row, counts.col] += counts.data


def _text(source: Any, tokens: Any, batch_size: int) -> tuple[ModelText, int]:
    """The model with its text, and the number of contexts to read."""
    import torch

    from saecore.activations.contexts import InOrder
    from saecore.analysis.text import ModelText, open_sae_with_text
    from saecore.models.wrap import backend_of

    if isinstance(source, str | Path):
        source = open_sae_with_text(source).text()
    if isinstance(source, ModelText) and (tokens is None or isinstance(tokens, int)):
        tokens = DEFAULT_TOKENS if tokens is None else tokens
        text = attrs.evolve(source, batch_size=batch_size)
        return text, tokens // source.contexts.context_size
    if isinstance(source, ModelText) or getattr(tokens, "ndim", 0) != 2:
        raise DataError(
            "features: expected the directory of a run and a number of tokens, or a model and "
            "contexts [contexts, T]"
        )
    rows = torch.as_tensor(tokens).cpu().numpy()
    return ModelText(
        backend=backend_of(source), contexts=InOrder(rows), seed=0, batch_size=batch_size
    ), len(rows)


def _selected(latents: Sequence[int] | None, d_sae: int) -> NDArray[np.int64]:
    if latents is None:
        return np.arange(d_sae)
    selected = np.asarray(list(latents), dtype=np.int64)
    wrong = selected[(selected < 0) | (selected >= d_sae)]
    if len(wrong) or len(set(selected.tolist())) != len(selected):
        got = f"got {wrong[0]}" if len(wrong) else "got one twice"
        raise DataError(f"features: expected distinct latents from 0 to {d_sae - 1}, {got}")
    return selected
