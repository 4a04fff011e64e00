"""The dense form of what selects by a threshold: while a large share of the latents fires.

At the start of training ReLU, gates and JumpReLU let half of all latents pass. Walking such
entries one by one costs several times as much as multiplying all of them; the other way round
once few are left. Both forms give the same features and gradients, so which of them serves is
decided in every step anew, from that step's batch and weights alone: the pre-activations of some
of its rows are counted. A resumed run decides as the uninterrupted one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saecore.dense_codes import row_chunks
from saecore.ops import plain

SAMPLE = 32
"""Rows whose pre-activations are counted."""

LARGEST = 2**31
"""Bytes of `[N, d_sae]` up to which the dense form is taken on other devices, where counting
would wait for the device."""


@torch.no_grad()
def pays(
    x: Tensor, encoder: Tensor, b_enc: Tensor, threshold: float | Tensor, centre: Tensor | None
) -> bool:
    """Whether the dense form is the faster one; arguments as of `plain.select_above`."""
    if x.device.type != "cpu":
        return len(x) * len(encoder) * x.element_size() <= LARGEST
    rows = x[:: max(1, len(x) // SAMPLE)]
    pre = torch.addmm(b_enc, rows if centre is None else rows - centre, encoder.t())
    return bool(((pre > threshold).sum() > plain.DENSE * pre.numel()).numpy())


class Above(torch.autograd.Function):
    """Pre-activations above a threshold `[N, d_sae]`, 0 elsewhere; and which those are.

    The mask is None where the threshold is a number that is not negative: entries are then the
    values above 0.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        centre: Tensor | None,
        threshold: float | Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Multiply, and cut in the same chunk."""
        encoder, centred = W_enc.t(), x if centre is None else x - centre
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
                torch.addmm(b_enc, centred[chunk], encoder.t(), out=part)
            else:
                low = (b_enc.to(ctx.low), centred[chunk].to(ctx.low), encoder.t().to(ctx.low))
                part.copy_(torch.addmm(*low))
            if mask is None:
                torch.nn.functional.threshold(part, float(threshold), 0.0, inplace=True)
            else:
                torch.gt(part, threshold, out=mask[chunk])
                part.masked_fill_(~mask[chunk], 0)
        ctx.save_for_backward(values, mask, centred, W_enc)
        ctx.centred = centre is not None
        if mask is not None:
            ctx.mark_non_differentiable(mask)
        return values, mask

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for x, W_enc, b_enc and centre, chunk after chunk."""
        grad = grads[0]
        values, mask, centred, W_enc = ctx.saved_tensors
        encoder = W_enc.t()
        d_x = torch.empty_like(centred) if ctx.needs_input_grad[0] else None
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
            d_W.addmm_(part.t(), centred[chunk])
            if d_x is not None:
                torch.mm(part, encoder, out=d_x[chunk])
        d_centre = -(d_b @ encoder) if ctx.centred and ctx.needs_input_grad[3] else None
        return d_x, d_W.t(), d_b, d_centre, None
