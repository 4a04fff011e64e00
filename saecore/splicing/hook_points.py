"""Hook points of a spliced SAE, where its tensors can be read and replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

SHARED = ("hook_sae_input", "hook_sae_acts_pre", "hook_sae_acts_post", "hook_sae_recons")
"""Hook points of an SAE in the order of its forward pass, prefixed by its (first) target.

Shapes: input `[B, T, d_in]`, acts_pre and acts_post `[B, T, d_sae]`, recons `[B, T, d_out]`, in the
scale of the model's activations. acts_pre can be read but not replaced.
"""
EACH = ("hook_sae_error", "hook_sae_output")
"""Hook points of every target, in the shape of the model's activation; the first only with an error
term."""

HookFn = Callable[[Tensor], Tensor | None]
"""Called with a tensor; a returned tensor replaces it."""


class AnyHookPoint(Protocol):
    """A point in a forward pass that calls functions with the tensor there."""

    @property
    def watched(self) -> bool:
        """Whether any function is attached."""
        ...

    def __call__(self, value: Tensor) -> Tensor:
        """Call the functions in turn and return the last value."""
        ...


class HookPoint:
    """A hook point with a list of functions; `SAEHookPoint` is that of TransformerLens."""

    def __init__(self) -> None:
        self.functions: list[HookFn] = []

    @property
    def watched(self) -> bool:
        """Whether any function is attached."""
        return bool(self.functions)

    def __call__(self, value: Tensor) -> Tensor:
        """Call the functions in turn and return the last value."""
        for function in self.functions:
            new = function(value)
            value = value if new is None else new
        return value


def through(point: AnyHookPoint, value: Tensor) -> tuple[Tensor, bool]:
    """Pass a value through a hook point; return the result and whether it changed.

    In-place writes count as changes: torch counts them in `_version`, except for inference
    tensors, which are taken as changed.
    """
    if not point.watched:
        return value, False
    counted = not torch.is_inference(value)
    version = value._version if counted else 0
    new = point(value)
    return new, new is not value or not counted or new._version != version
