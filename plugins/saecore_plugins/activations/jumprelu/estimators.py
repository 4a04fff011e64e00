"""JumpReLU and the step function with straight-through estimators of their derivatives.

With u = (pre − θ) / ε and rect(u) = 1 where |u| < ½: for a gradient g,
  jump(pre, θ) = pre · 1[pre > θ]:  d θ = −(θ/ε) rect g,  d pre = 1[pre > θ] g (+ (θ/ε) rect g)
  step(pre, θ) = 1[pre > θ]:        d θ = −(1/ε) rect g,  d pre = 0 (+ (1/ε) rect g)
The terms in brackets are Anthropic's (January 2025); without them it is Rajamanoharan et al. 2024
(arXiv 2407.14435).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Jump(torch.autograd.Function):
    """`jump(pre, theta, bandwidth, to_input)`, elementwise."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, bandwidth: float, to_input: bool) -> Tensor:
        """`pre` where it exceeds theta, else 0."""
        ctx.save_for_backward(pre, theta)
        ctx.settings = bandwidth, to_input
        return pre * (pre > theta)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The straight-through gradients."""
        (grad,), (pre, theta) = grads, ctx.saved_tensors
        bandwidth, to_input = ctx.settings
        near = (theta / bandwidth) * _rect(pre, theta, bandwidth) * grad
        d_pre = (pre > theta) * grad
        return (d_pre + near).to(pre.dtype) if to_input else d_pre, -near, None, None


class Step(torch.autograd.Function):
    """`step(pre, theta, bandwidth, to_input)`, elementwise."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, bandwidth: float, to_input: bool) -> Tensor:
        """1 where pre exceeds theta, else 0."""
        ctx.save_for_backward(pre, theta)
        ctx.settings = bandwidth, to_input
        return (pre > theta).to(theta.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The straight-through gradients."""
        (grad,), (pre, theta) = grads, ctx.saved_tensors
        bandwidth, to_input = ctx.settings
        near = _rect(pre, theta, bandwidth) / bandwidth * grad
        return near.to(pre.dtype) if to_input else None, -near, None, None


def _rect(pre: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
    return ((pre - theta).abs() / bandwidth < 0.5).to(theta.dtype)
