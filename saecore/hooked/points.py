"""Points of a spliced SAE, at which its tensors can be seen and replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

SHARED = ("hook_sae_input", "hook_sae_acts_pre", "hook_sae_acts_post", "hook_sae_recons")
"""Points of an SAE, in the order of its forward pass; their names begin with its (first) target.

Shapes: input `[B, T, d_in]`, acts_pre and acts_post `[B, T, d_sae]`, recons `[B, T, d_out]`, in the
unit of the model's activations. acts_pre can be seen, not replaced.
"""
EACH = ("hook_sae_error", "hook_sae_output")
"""Points of every target, in the shape of the model's activation; error only with an error term."""

Seen = Callable[[Tensor], Tensor | None]
"""A function of a tensor; what it returns, if anything, takes the tensor's place."""


class Point(Protocol):
    """A place in a forward pass with functions to be called there."""

    @property
    def watched(self) -> bool:
        """Whether there is any function."""
        ...

    def __call__(self, value: Tensor) -> Tensor:
        """Call them, one after another; the last value goes on."""
        ...


class Tap:
    """A point with a list of functions."""

    def __init__(self) -> None:
        self.functions: list[Seen] = []

    @property
    def watched(self) -> bool:
        """Whether there is any function."""
        return bool(self.functions)

    def __call__(self, value: Tensor) -> Tensor:
        """Call them, one after another; the last value goes on."""
        for function in self.functions:
            new = function(value)
            value = value if new is None else new
        return value


def through(point: Point, value: Tensor) -> tuple[Tensor, bool]:
    """What comes out of a point, and whether it is another value than what went in.

    A function may also write into the tensor that it is given; torch counts that.
    """
    if not point.watched:
        return value, False
    counted = not torch.is_inference(value)
    version = value._version if counted else 0
    new = point(value)
    return new, new is not value or not counted or new._version != version
