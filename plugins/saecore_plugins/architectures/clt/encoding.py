"""Pre-activations of one encoder per layer, presented as one encoder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

from saecore import ops
from saecore.core.activation import PreActivations
from saecore.ops.codes import Codes


class LayeredEncoding(PreActivations):
    """L encoders, each over the input of its layer, with concatenated latents.

    `x [N, L, d]`; the columns of `W_enc [d, d_sae]` and of `b_enc [d_sae]` are L equal blocks, one
    per layer. There is no center and no scale.
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
        """The n largest of the whole batch, from the union of each layer's n largest."""
        layers = list(self._layers())
        with torch.no_grad():
            cells = len(self.x) * len(self.b_enc) // len(layers)
            union = Codes.join([ops.select_batch_topk(*layer, min(n, cells)) for layer in layers])
            # Stable: ties go to the lowest token, then the lowest latent.
            best = torch.sort(union.values, descending=True, stable=True).indices[:n]
            mask = torch.zeros_like(union.values, dtype=torch.bool).index_fill(0, best, True)
            chosen = union.where(mask)
        parts = zip(chosen.split(len(layers)), layers, strict=True)
        return Codes.join([ops.differentiable(part, *layer) for part, layer in parts])

    def preactivations(self, latents: Tensor) -> Tensor:
        """Pre-activations of some latents `[n]`: `[N, n]`."""
        layers = list(self._layers())
        width = len(self.b_enc) // len(layers)
        order = torch.sort(latents, stable=True).indices
        counts = torch.bincount(latents // width, minlength=len(layers)).tolist()
        by_layer = (latents[order] % width).split(counts)
        pre = torch.cat(
            [
                ops.preactivations(*layer, latents_of_layer)
                for layer, latents_of_layer in zip(layers, by_layer, strict=True)
            ],
            1,
        )
        return pre[:, torch.argsort(order)]

    def dense(self) -> Tensor:
        """All pre-activations `[N, d_sae]`."""
        return torch.cat([x @ W_enc + b_enc for x, W_enc, b_enc in self._layers()], dim=1)

    def _layers(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Each layer's input `[N, d]`, encoder `[d, d_sae / L]` and bias `[d_sae / L]`."""
        count = self.x.shape[1]
        # Blocks of rows: their gradients are concatenated once and stay contiguous.
        encoders = self.W_enc.t().chunk(count)
        biases = self.b_enc.chunk(count)
        for x, encoder, bias in zip(self.x.unbind(1), encoders, biases, strict=True):
            yield x, encoder.t(), bias
