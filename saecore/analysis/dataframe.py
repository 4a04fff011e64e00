"""Feature examples as a pandas data frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from saecore.analysis.examples import NONE

if TYPE_CHECKING:
    import pandas

    from saecore.analysis.examples import Examples
    from saecore.analysis.features import Features


def frame(features: Features) -> pandas.DataFrame:
    """One row per example; see `Features.frame`."""
    import pandas

    words: dict[int, str] = {}

    def word(token: int) -> str:
        if token not in words:
            words[token] = features.tokenizer.decode([token])
        return words[token]

    rows = [
        *_rows(features, "top", features.top, word),
        *_rows(features, "sample", features.sampled, word),
    ]
    columns = ["latent", "kind", "rank", "band", "context", "position", "activation", "token",
               "tokens", "activations"]  # fmt: skip
    table = pandas.DataFrame(rows, columns=columns).astype({"band": "Int64"})
    return table.sort_values(["latent", "kind", "rank"], ascending=[True, False, True],
                             ignore_index=True)  # fmt: skip


def _rows(
    features: Features, kind: str, examples: Examples, word: Callable[[int], str]
) -> Iterator[tuple[Any, ...]]:
    positions, peaks = examples.positions, examples.peaks
    for n, latent in enumerate(features.latents):
        filled = np.flatnonzero(examples.contexts[n] != NONE)
        for m in filled:
            position = positions[n, m]
            yield (
                int(latent),
                kind,
                int(m),
                None if kind == "top" else band(int(m), len(filled), features.bands),
                int(examples.contexts[n, m]),
                int(position),
                float(peaks[n, m]),
                word(int(examples.tokens[n, m, position])),
                examples.tokens[n, m],
                examples.values[n, m],
            )


def band(rank: int, samples: int, bands: int) -> int:
    """The band of a sample by its rank, where band 1 has the largest activations."""
    return rank * bands // samples + 1
