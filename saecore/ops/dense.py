"""The dense form of threshold selections, for when a large share of the latents fires.

At the start of training ReLU, gates and JumpReLU let half of all latents pass. Processing these
entries one by one costs several times as much as a dense product; later, when few are left, it
costs much less. Both forms have the same features and gradients, so each step chooses anew, from
its batch and weights alone, by counting the active pre-activations of some rows. A resumed run
therefore makes the same choices as an uninterrupted one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saecore.ops import reference
from saecore.ops.dense_codes import row_chunks

SAMPLE = 32
"""Number of rows whose pre-activations are counted."""

LARGEST = 2**31
"""Largest `[N, d_sae]` in bytes for the dense form on other devices, where counting would block
the host."""


@torch.no_grad()
def is_faster(
    x: Tensor, encoder: Tensor, b_enc: Tensor, threshold: float | Tensor, center: Tensor | None
) -> bool:
    """Whether the dense form is faster; arguments as in `reference.select_above`."""
    if x.device.type != "cpu":
        return len(x) * len(encoder) * x.element_size() <= LARGEST
    rows = x[:: max(1, len(x) // SAMPLE)]
    pre = torch.addmm(b_enc, rows if center is None else rows - center, encoder.t())
    return bool(((pre > threshold).sum() > reference.DENSE * pre.numel()).numpy())


class Above(torch.autograd.Function):
    """Pre-activations above a threshold `[N, d_sae]`, 0 elsewhere, and their mask.

    The mask is None if the threshold is a nonnegative number: the entries are then the values
    above 0.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        center: Tensor | None,
        threshold: float | Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Multiply and apply the threshold, chunk by chunk."""
        encoder, centered = W_enc.t(), x if center is None else x - center
        ctx.low = None
        if torch.is_autocast_enabled(x.device.type):
            ctx.low = torch.get_autocast_dtype(x.device.type)
        values = x.new_empty(len(x), len(encoder))
        mask = None
        if isinstance(threshold, Tensor) or threshold < 0:
            mask = torch.empty_like(values, dtype=torch.bool)
        for chunk in row_chunks(values):
            part = values[chunk]
            if ctx.low is None:
                torch.addmm(b_enc, centered[chunk], encoder.t(), out=part)
            else:
                low = (b_enc.to(ctx.low), centered[chunk].to(ctx.low), encoder.t().to(ctx.low))
                part.copy_(torch.addmm(*low))
            if mask is None:
                torch.nn.functional.threshold(part, float(threshold), 0.0, inplace=True)
            else:
                torch.gt(part, threshold, out=mask[chunk])
                part.masked_fill_(~mask[chunk], 0)
        ctx.save_for_backward(values, mask, centered, W_enc)
        ctx.centered = center is not None
        if mask is not None:
            ctx.mark_non_differentiable(mask)
        return values, mask

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for x, W_enc, b_enc and center, chunk by chunk."""
        grad = grads[0]
        values, mask, centered, W_enc = ctx.saved_tensors
        encoder = W_enc.t()
        d_x = torch.empty_like(centered) if ctx.needs_input_grad[0] else None
        d_W = torch.zeros(encoder.shape, dtype=grad.dtype, device=grad.device)
        d_b = grad.new_zeros(len(encoder))
        zero, buffer = grad.new_zeros(()), None
        for chunk in row_chunks(values):
            if buffer is None:
                buffer = torch.empty_like(values[chunk])
            part = buffer[: len(values[chunk])]
            if mask is None:
                torch.ops.aten.threshold_backward(grad[chunk], values[chunk], 0, grad_input=part)
            else:
                torch.where(mask[chunk], grad[chunk], zero, out=part)
            d_b += part.sum(0)
            d_W.addmm_(part.t(), centered[chunk])
            if d_x is not None:
                torch.mm(part, encoder, out=d_x[chunk])
        d_center = -(d_b @ encoder) if ctx.centered and ctx.needs_input_grad[3] else None
        return d_x, d_W.t(), d_b, d_center, None
