"""Gradients of the two sparse operations, computed from their entries alone.

With entries (row r, latent j, value v), c = x − center and the gradient g of each value:
  pre = c[r] · encoder[j] + b_enc[j]   gives  d encoder[j] = Σ g c[r],  d b_enc[j] = Σ g,
      d x[r] = Σ g encoder[j],  d center = −Σ d x = −(d b_enc @ encoder);
  y[r] = Σ v W_dec[j]                  gives  d v = y'[r] · W_dec[j],  d W_dec[j] = Σ v y'[r].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saecore.ops.codes import Pattern
from saecore.ops.dispatch import function


class Preactivations(torch.autograd.Function):
    """Selected pre-activations `[nnz]`, as a function of input, encoder, bias and center."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        pattern: Pattern,
        x: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        center: Tensor | None,
    ) -> Tensor:
        """Return the values that the selection has computed."""
        ctx.pattern = pattern
        ctx.save_for_backward(x, W_enc, center)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for x, W_enc, b_enc and center."""
        (grad,) = grads
        x, W_enc, center = ctx.saved_tensors
        pattern, encoder = ctx.pattern, W_enc.t()
        d_x = d_W = d_center = None
        d_b = function("latent_sum", grad)(pattern, grad)
        if ctx.needs_input_grad[2]:
            d_x = function("gather_sum", grad, encoder)(pattern, grad, encoder.contiguous())
        if ctx.needs_input_grad[3]:
            centered = x if center is None else x - center
            scatter = function("scatter_outer", grad, centered)
            d_W = scatter(pattern, grad, centered.contiguous()).t()
        if center is not None and ctx.needs_input_grad[5]:
            d_center = -(d_b @ encoder)
        return None, None, d_x, d_W, d_b, d_center


class Decode(torch.autograd.Function):
    """`codes @ W_dec` `[N, d_out]`, as a function of the values and the decoder."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, pattern: Pattern, W_dec: Tensor) -> Tensor:
        """Sum the decoder rows of each token."""
        ctx.pattern = pattern
        ctx.save_for_backward(values, W_dec)
        with torch.autocast(W_dec.device.type, enabled=False):  # keep sums exact
            gather = function("gather_sum", values, W_dec)
            decoded: Tensor = gather(pattern, values, W_dec.contiguous())
            return decoded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for the values and the decoder."""
        (grad,) = grads
        values, W_dec = ctx.saved_tensors
        d_values = d_W = None
        if ctx.needs_input_grad[0]:
            d_values = function("dot", grad, W_dec)(ctx.pattern, grad, W_dec.contiguous())
        if ctx.needs_input_grad[2]:
            scatter = function("scatter_outer", values, grad)
            d_W = scatter(ctx.pattern, values, grad.contiguous())
        return d_values, None, d_W
