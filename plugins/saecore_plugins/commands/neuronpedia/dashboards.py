"""What a dashboard shows of a feature, measured on text: examples, density, histogram, logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.evaluation import Reading, batches
from saecore.sae import SAE

BARS = 40
"""Bars of a histogram."""
LOGITS = 10
"""Tokens that are listed at each end."""


@attrs.frozen
class Activations:
    """Every value that is not zero, feature after feature."""

    values: Tensor
    """`[n]`."""
    places: Tensor
    """Context times its size plus position of each value `[n]`."""
    starts: Tensor
    """Where each feature's values begin `[d_sae + 1]`."""
    tokens: int
    """Tokens that were read."""
    contexts: Tensor
    """Token ids `[contexts, T]`."""

    def of(self, feature: int) -> tuple[Tensor, Tensor]:
        """Values and places of a feature."""
        part = slice(int(self.starts[feature]), int(self.starts[feature + 1]))
        return self.values[part], self.places[part]


@torch.no_grad()
def collect(sae: SAE, backend: Any, contexts: Tensor, batch_size: int = 16) -> Activations:
    """Run model and SAE over contexts `[n, T]`; all that is active is kept, 12 bytes each."""
    reading, width = Reading.of(sae, backend), contexts.shape[1]
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    read = 0
    for number, part in enumerate(batches(contexts, batch_size)):
        used = reading.used(part)
        inputs, _ = reading.activations(backend, part)
        codes = sae.encode_sparse(inputs[used.to(inputs.device)].to(sae.W_dec.device))
        places = used.flatten().nonzero()[:, 0] + number * batch_size * width
        active = (codes.values != 0).cpu()
        rows, latents = codes.pattern.rows.cpu()[active], codes.pattern.indices.cpu()[active]
        found.append((codes.values.float().cpu()[active], places[rows], latents))
        read += int(used.sum())
    values, places, latents = (torch.cat(one) for one in zip(*found, strict=True))
    order = torch.sort(latents, stable=True).indices
    counts = torch.bincount(latents, minlength=sae.cfg.d_sae)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return Activations(values[order], places[order], starts, read, contexts)


def examples(found: Activations, feature: int, count: int) -> Iterator[tuple[int, list[float]]]:
    """The contexts in which a feature is most active, with its value at every token.

    Yields:
        The number of a context, and values `[T]`; at most `count`, the strongest first.
    """
    values, places = found.of(feature)
    width = found.contexts.shape[1]
    seen: set[int] = set()
    for at in values.sort(descending=True, stable=True).indices.tolist():
        context = int(places[at]) // width
        if context in seen:
            continue
        seen.add(context)
        inside = places // width == context
        row = torch.zeros(width)
        row[places[inside] % width] = values[inside]
        yield context, [round(one, 3) for one in row.tolist()]
        if len(seen) == count:
            return


def histogram(values: Tensor) -> tuple[list[float], list[float]]:
    """Heights and centres of the bars of a histogram; none where there are no values."""
    if not len(values):
        return [], []
    low, high = float(values.min()), float(values.max())
    heights = torch.histc(values, BARS, low, high)
    step = (high - low) / BARS
    return heights.tolist(), [round(low + (i + 0.5) * step, 3) for i in range(BARS)]


def unembedding(sae: SAE, backend: Any) -> Tensor | None:
    """The matrix `[vocab, d]` that makes logits of what the decoder writes; None where there is
    no such matrix, or the SAE writes something else than the residual stream.
    """
    model: Any = getattr(backend, "model", None)
    if not hasattr(model, "get_output_embeddings"):
        return None
    layer = model.get_output_embeddings()
    weight: Tensor | None = getattr(layer, "weight", None)
    if weight is None or weight.shape[1] != sae.cfg.d_out:
        return None
    return weight.detach().float().cpu()
