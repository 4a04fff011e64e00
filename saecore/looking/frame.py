"""Features as a pandas frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from saecore.looking.examples import NONE

if TYPE_CHECKING:
    import pandas

    from saecore.looking.examples import Examples
    from saecore.looking.features import Features


def frame(found: Features) -> pandas.DataFrame:
    """One row a context; see `Features.frame`."""
    import pandas

    words: dict[int, str] = {}

    def word(token: int) -> str:
        if token not in words:
            words[token] = found.tokenizer.decode([token])
        return words[token]

    rows = [*_rows(found, "top", found.top, word), *_rows(found, "sample", found.sampled, word)]
    columns = ["latent", "kind", "rank", "band", "context", "position", "activation", "token",
               "tokens", "activations"]  # fmt: skip
    table = pandas.DataFrame(rows, columns=columns).astype({"band": "Int64"})
    return table.sort_values(["latent", "kind", "rank"], ascending=[True, False, True],
                             ignore_index=True)  # fmt: skip


def _rows(found: Features, kind: str, examples: Examples, word: Any) -> Iterator[tuple[Any, ...]]:
    positions, peaks = examples.positions, examples.peaks
    for n, latent in enumerate(found.latents):
        filled = np.flatnonzero(examples.contexts[n] != NONE)
        for m in filled:
            at = positions[n, m]
            yield (
                int(latent),
                kind,
                int(m),
                None if kind == "top" else band(int(m), len(filled), found.bands),
                int(examples.contexts[n, m]),
                int(at),
                float(peaks[n, m]),
                word(int(examples.tokens[n, m, at])),
                examples.tokens[n, m],
                examples.values[n, m],
            )


def band(rank: int, samples: int, bands: int) -> int:
    """The band, from 1 for the largest activations, of the sample of a rank."""
    return rank * bands // samples + 1
