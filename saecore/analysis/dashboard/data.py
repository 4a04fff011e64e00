"""The data of the dashboard's script: rounded numbers, and every token's text once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saecore.analysis.dataframe import band
from saecore.analysis.directions import Ranked, alike, largest, logits, norms
from saecore.analysis.examples import NONE
from saecore.evaluation.batches import HookReader

if TYPE_CHECKING:
    from saecore.analysis.examples import Examples
    from saecore.analysis.features import Features
    from saecore.core.model import ModelBackend
    from saecore.core.sae import SAE

LOGITS, NEIGHBORS = 10, 8
"""Number of listed tokens and features."""
WIDTH = 128
"""Tokens to show of a longer context, around the peak."""


class Words:
    """Numbers tokens in the order of their first use.

    Args:
        tokenizer: decodes the tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.numbers: dict[int, int] = {}

    def number(self, token: int) -> int:
        """Number of a token."""
        return self.numbers.setdefault(token, len(self.numbers))

    def texts(self) -> list[str]:
        """Text of each numbered token."""
        return [self.tokenizer.decode([token]) for token in self.numbers]


def payload(features: Features, sae: SAE, backend: ModelBackend) -> dict[str, Any]:
    """The data of the page, for its script.

    Args:
        features: the result of `saecore.features`.
        sae: the SAE.
        backend: the model, for its unembedding.
    """
    words, latents = Words(features.tokenizer), features.latents
    effects = logits(sae, backend, latents, LOGITS)
    near, together = alike(sae, latents, NEIGHBORS), largest(features.overlap(), NEIGHBORS)
    decoder_norms, density = norms(sae, latents), features.density
    tables = []
    for n, latent in enumerate(latents.tolist()):
        counts, edges = features.histogram(latent)
        tables.append(
            {
                "id": latent,
                "density": short(density[n]),
                "mean": short(features.means[n]),
                "norm": short(decoder_norms[n]),
                "bins": [counts.tolist(), float(edges[0]), float(features.widths[n])],
                "top": [_context(features.top, n, m, words) for m in _filled(features.top, n)],
                "bands": _bands(features, n, words),
                "high": [] if effects is None else _tokens(effects[0], n, words),
                "low": [] if effects is None else _tokens(effects[1], n, words),
                "near": _latents(near, n),
                "together": [[other, value] for other, value in _latents(together, n) if value],
            }
        )
    return {
        "hooks": list(HookReader.of(sae, backend).hooks),
        "logits": effects is not None,
        "features": tables,
        "words": words.texts(),
    }


def short(number: float) -> float:
    """Round to four significant digits."""
    return float(f"{number:.4g}")


def _filled(examples: Examples, n: int) -> list[int]:
    return [int(m) for m in np.flatnonzero(examples.contexts[n] != NONE)]


def _bands(features: Features, n: int, words: Words) -> list[list[Any]]:
    """The sampled contexts of a latent, by band."""
    filled = _filled(features.sampled, n)
    bands: list[list[Any]] = [[] for _ in range(features.bands)]
    for m in filled:
        index = band(m, len(filled), features.bands) - 1
        bands[index].append(_context(features.sampled, n, m, words))
    return bands


def _context(examples: Examples, n: int, m: int, words: Words) -> list[Any]:
    """[context, position of the peak, first position shown, tokens, [position, value, …]]."""
    tokens, values = examples.tokens[n, m], examples.values[n, m]
    peak = int(np.abs(values).argmax())
    start = max(0, min(peak - WIDTH * 2 // 3, len(tokens) - WIDTH))
    shown = slice(start, start + WIDTH)
    active: NDArray[np.int64] = np.flatnonzero(values[shown])
    pairs = [item for at in active.tolist() for item in (at, short(values[start + at]))]
    numbers = [words.number(int(token)) for token in tokens[shown]]
    return [int(examples.contexts[n, m]), peak - start, start, numbers, pairs]


def _tokens(ranked: Ranked, n: int, words: Words) -> list[Any]:
    tokens, values = ranked
    return [
        [words.number(int(token)), short(value)]
        for token, value in zip(tokens[n], values[n], strict=True)
    ]


def _latents(ranked: Ranked, n: int) -> list[Any]:
    latents, values = ranked
    return [
        [int(latent), short(value)] for latent, value in zip(latents[n], values[n], strict=True)
    ]
