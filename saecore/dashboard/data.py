"""What the dashboard's script gets: numbers rounded, every token's text once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saecore.evaluation import Reading
from saecore.looking.directions import Ranked, alike, largest, logits, norms
from saecore.looking.examples import NONE
from saecore.looking.frame import band

if TYPE_CHECKING:
    from saecore.backend import ModelBackend
    from saecore.looking.examples import Examples
    from saecore.looking.features import Features
    from saecore.sae import SAE

LOGITS, NEIGHBOURS = 10, 8
"""Tokens and features that are listed."""
WIDTH = 128
"""Tokens that are shown of a longer context, around the peak."""


class Words:
    """Tokens numbered in the order of their first use.

    Args:
        tokenizer: decodes them.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.numbers: dict[int, int] = {}

    def number(self, token: int) -> int:
        """The token's number."""
        return self.numbers.setdefault(token, len(self.numbers))

    def texts(self) -> list[str]:
        """The text of each."""
        return [self.tokenizer.decode([token]) for token in self.numbers]


def payload(found: Features, sae: SAE, backend: ModelBackend) -> dict[str, Any]:
    """Everything the page shows."""
    words, latents = Words(found.tokenizer), found.latents
    effects = logits(sae, backend, latents, LOGITS)
    near, also = alike(sae, latents, NEIGHBOURS), largest(found.overlap(), NEIGHBOURS)
    length, density = norms(sae, latents), found.density
    features = []
    for n, latent in enumerate(latents.tolist()):
        counts, edges = found.histogram(latent)
        features.append(
            {
                "id": latent,
                "density": short(density[n]),
                "mean": short(found.means[n]),
                "norm": short(length[n]),
                "bins": [counts.tolist(), float(edges[0]), float(found.widths[n])],
                "top": [_context(found.top, n, m, words) for m in _filled(found.top, n)],
                "bands": _bands(found, n, words),
                "high": [] if effects is None else _tokens(effects[0], n, words),
                "low": [] if effects is None else _tokens(effects[1], n, words),
                "near": _others(near, n),
                "together": [one for one in _others(also, n) if one[1]],
            }
        )
    return {
        "hooks": list(Reading.of(sae, backend).hooks),
        "logits": effects is not None,
        "features": features,
        "words": words.texts(),
    }


def short(number: float) -> float:
    """Four digits of a number."""
    return float(f"{number:.4g}")


def _filled(examples: Examples, n: int) -> list[int]:
    return [int(m) for m in np.flatnonzero(examples.contexts[n] != NONE)]


def _bands(found: Features, n: int, words: Words) -> list[list[Any]]:
    filled = _filled(found.sampled, n)
    bands: list[list[Any]] = [[] for _ in range(found.bands)]
    for m in filled:
        place = band(m, len(filled), found.bands) - 1
        bands[place].append(_context(found.sampled, n, m, words))
    return bands


def _context(examples: Examples, n: int, m: int, words: Words) -> list[Any]:
    """[number, position of the peak, first position shown, tokens, position and value by turns]."""
    tokens, values = examples.tokens[n, m], examples.values[n, m]
    peak = int(np.abs(values).argmax())
    start = max(0, min(peak - WIDTH * 2 // 3, len(tokens) - WIDTH))
    shown = slice(start, start + WIDTH)
    active: NDArray[np.int64] = np.flatnonzero(values[shown])
    pairs = [one for at in active.tolist() for one in (at, short(values[start + at]))]
    numbers = [words.number(int(token)) for token in tokens[shown]]
    return [int(examples.contexts[n, m]), peak - start, start, numbers, pairs]


def _tokens(ranked: Ranked, n: int, words: Words) -> list[Any]:
    tokens, values = ranked
    return [
        [words.number(int(token)), short(value)]
        for token, value in zip(tokens[n], values[n], strict=True)
    ]


def _others(ranked: Ranked, n: int) -> list[Any]:
    latents, values = ranked
    return [[int(one), short(value)] for one, value in zip(latents[n], values[n], strict=True)]
