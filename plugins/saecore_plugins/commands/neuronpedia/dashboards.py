"""Measure a feature on text for its dashboard: examples, density, histogram, logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.sae import SAE
from saecore.evaluation.batches import HookReader

BARS = 40
"""Number of bars of a histogram."""
LOGITS = 10
"""Number of tokens with the largest and with the smallest logits."""


@attrs.frozen(kw_only=True)
class Activations:
    """All nonzero feature values, grouped by feature."""

    values: Tensor
    """`[n]`."""
    positions: Tensor
    """Context index times context size plus position, for each value `[n]`."""
    starts: Tensor
    """Start of each feature's values `[d_sae + 1]`."""
    tokens: int
    """Number of tokens read."""
    contexts: Tensor
    """Token ids `[contexts, T]`."""

    def of(self, feature: int) -> tuple[Tensor, Tensor]:
        """Values and positions of a feature."""
        span = slice(int(self.starts[feature]), int(self.starts[feature + 1]))
        return self.values[span], self.positions[span]


@torch.no_grad()
def collect(sae: SAE, backend: Any, contexts: Tensor, batch_size: int = 16) -> Activations:
    """Run model and SAE over contexts `[n, T]`; keeps 12 bytes per nonzero value."""
    reader, width = HookReader.of(sae, backend), contexts.shape[1]
    chunks: list[tuple[Tensor, Tensor, Tensor]] = []
    read = 0
    for number, batch in enumerate(contexts.split(batch_size)):
        used = reader.used(batch)
        inputs, _ = reader.activations(backend, batch)
        codes = sae.encode_sparse(inputs[used.to(inputs.device)].to(sae.W_dec.device))
        positions = used.flatten().nonzero()[:, 0] + number * batch_size * width
        active = (codes.values != 0).cpu()
        rows, latents = codes.pattern.rows.cpu()[active], codes.pattern.indices.cpu()[active]
        chunks.append((codes.values.float().cpu()[active], positions[rows], latents))
        read += int(used.sum())
    values, positions, latents = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    order = torch.sort(latents, stable=True).indices
    counts = torch.bincount(latents, minlength=sae.cfg.d_sae)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return Activations(
        values=values[order],
        positions=positions[order],
        starts=starts,
        tokens=read,
        contexts=contexts,
    )


def examples(
    activations: Activations, feature: int, count: int
) -> Iterator[tuple[int, list[float]]]:
    """The contexts in which a feature is most active, with its value at every token.

    Yields:
        The index of a context, and values `[T]`; at most `count`, strongest first.
    """
    values, positions = activations.of(feature)
    width = activations.contexts.shape[1]
    seen: set[int] = set()
    for at in values.sort(descending=True, stable=True).indices.tolist():
        context = int(positions[at]) // width
        if context in seen:
            continue
        seen.add(context)
        inside = positions // width == context
        row = torch.zeros(width)
        row[positions[inside] % width] = values[inside]
        yield context, [round(value, 3) for value in row.tolist()]
        if len(seen) == count:
            return


def histogram(values: Tensor) -> tuple[list[float], list[float]]:
    """Heights and centers of a histogram's bars; empty if there are no values."""
    if not len(values):
        return [], []
    low, high = float(values.min()), float(values.max())
    heights = torch.histc(values, BARS, low, high)
    step = (high - low) / BARS
    return heights.tolist(), [round(low + (i + 0.5) * step, 3) for i in range(BARS)]


def unembedding(sae: SAE, backend: Any) -> Tensor | None:
    """The matrix `[vocab, d]` from decoder rows to logits.

    None if the model has no such matrix, or the SAE does not write to the residual stream.
    """
    matrix: Tensor | None = getattr(backend, "unembed", None)
    if matrix is None or matrix.shape[0] != sae.cfg.d_out:
        return None
    return matrix.detach().float().cpu().t()
