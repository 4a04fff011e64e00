"""Copies of activations, for models and hook functions that write into tensors in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

HookFunction = Callable[[Tensor], Tensor | None]
"""Called with an activation; a returned tensor replaces it."""


def isolated(function: HookFunction) -> HookFunction:
    """Give a hook function a copy of the activation, and the model a copy of its result.

    The function may keep or overwrite what it gets and what it returns: the model's later writes
    do not reach them. What it writes without returning a tensor replaces the activation, too. The
    model goes on with its own tensor if the function changes nothing, unless the copy has
    gradients: then the model goes on from the copy.
    """

    def call(value: Tensor) -> Tensor | None:
        if not isinstance(value, Tensor):
            return function(value)
        copy = value.clone()
        before = _writes(copy)
        new = function(copy)
        new = copy if new is None else new
        unchanged = new is copy and before is not None and _writes(copy) == before
        return None if unchanged and not copy.requires_grad else new.clone()

    return call


class Snapshots:
    """Tensors by name, as they were when they were stored."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._originals: dict[str, tuple[Tensor, int]] = {}

    def store(self, name: str, value: Tensor) -> None:
        """Store a tensor that the model may overwrite later."""
        self._tensors[name] = value.clone()
        writes = _writes(value)
        if value.requires_grad and writes is not None:
            self._originals[name] = (value, writes)

    def store_uncopied(self, name: str, value: Tensor) -> None:
        """Store a tensor that nothing overwrites."""
        self._tensors[name] = value

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, after the forward pass.

        A tensor with gradients is the model's own if the model has not written into it, so that
        the output can be differentiated with respect to it; else it is the copy.
        """
        tensors = dict(self._tensors)
        for name, (value, writes) in self._originals.items():
            if _writes(value) == writes:
                tensors[name] = value
        return tensors


def _writes(tensor: Tensor) -> int | None:
    """How often a tensor's memory was written in place; None for inference tensors."""
    return None if torch.is_inference(tensor) else tensor._version
