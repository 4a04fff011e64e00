"""One encoder per layer, asked as one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

from saecore import ops
from saecore.activation import Encoding
from saecore.codes import Codes


class LayeredEncoding(Encoding):
    """L encoders, each over the input of its layer; their latents stand side by side.

    `x [N, L, d]`; the columns of `W_enc [d, d_sae]` and of `b_enc [d_sae]` are L equal runs, one
    for each layer. Neither centre nor scale.
    """

    def above(self, threshold: float | Tensor) -> Codes:
        """Every pre-activation above a threshold, a number or `[d_sae]`."""
        layers = list(self._layers())
        width = len(self.b_enc) // len(layers)
        limits = threshold.split(width) if isinstance(threshold, Tensor) else repeat(threshold)
        return Codes.join(
            [ops.select_above(*layer, limit) for layer, limit in zip(layers, limits, strict=False)]
        )

    def batch_topk(self, n: int) -> Codes:
        """The n largest of the whole batch: of the union of each layer's n largest."""
        layers = list(self._layers())
        with torch.no_grad():
            cells = len(self.x) * len(self.b_enc) // len(layers)
            union = Codes.join([ops.select_batch_topk(*one, min(n, cells)) for one in layers])
            # Stable: of equals those of the lowest token, then of the lowest latent, come first.
            best = torch.sort(union.values, descending=True, stable=True).indices[:n]
            kept = torch.zeros_like(union.values, dtype=torch.bool).index_fill(0, best, True)
            chosen = union.where(kept)
        parts = zip(chosen.split(len(layers)), layers, strict=True)
        return Codes.join([ops.differentiable(one, *layer) for one, layer in parts])

    def preactivations(self, latents: Tensor) -> Tensor:
        """Pre-activations of some latents `[n]`: `[N, n]`."""
        layers = list(self._layers())
        width = len(self.b_enc) // len(layers)
        order = torch.sort(latents, stable=True).indices
        counts = torch.bincount(latents // width, minlength=len(layers)).tolist()
        asked = (latents[order] % width).split(counts)
        found = torch.cat(
            [ops.preactivations(*layer, one) for layer, one in zip(layers, asked, strict=True)], 1
        )
        return found[:, torch.argsort(order)]

    def dense(self) -> Tensor:
        """All pre-activations `[N, d_sae]`."""
        return torch.cat([x @ W_enc + b_enc for x, W_enc, b_enc in self._layers()], dim=1)

    def _layers(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of each layer the input `[N, d]`, encoder `[d, d_sae / L]` and bias `[d_sae / L]`."""
        count = self.x.shape[1]
        # Runs of rows: their gradients are put together once, and are contiguous.
        encoders = self.W_enc.t().chunk(count)
        biases = self.b_enc.chunk(count)
        for x, encoder, bias in zip(self.x.unbind(1), encoders, biases, strict=True):
            yield x, encoder.t(), bias
