"""Copies for TransformerLens' caches, which store the model's own tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge


class CopyingCaches(TransformerBridge):  # type: ignore[misc]
    """TransformerLens' bridge with caches that hold copies."""

    def run_with_cache(self, *args: Any, device: Any = None, **options: Any) -> Any:
        """The bridge's `run_with_cache`; the model does not overwrite what is cached.

        Args:
            args: arguments of the bridge's method.
            device: where the cached tensors go; default: they stay on their own device.
            options: further arguments of the bridge's method.
        """
        with warnings.catch_warnings() if device is None else nullcontext():
            if device is None:  # the bridge takes `CopyTo` for a device that somebody asked for
                warnings.filterwarnings("ignore", r"run_with_cache\(device=")
            return super().run_with_cache(*args, device=CopyTo(device), **options)

    def get_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: Any = None,
        *args: Any,
        **options: Any,
    ) -> Any:
        """The bridge's `get_caching_hooks`; the model does not overwrite what is cached.

        Args:
            names_filter: as for the bridge's method.
            incl_bwd: as for the bridge's method.
            device: as for `run_with_cache`.
            args: further arguments of the bridge's method.
            options: further arguments of the bridge's method.
        """
        return super().get_caching_hooks(names_filter, incl_bwd, CopyTo(device), *args, **options)


class CopyTo:
    """A device for TransformerLens' caches, to which `tensor.to` always copies.

    The caches call `tensor.detach().to(device)` at each hook, once per alias of the hook. The copy
    of one tensor is made once.

    Args:
        device: where the copies go; default: the tensor's own device.
    """

    def __init__(self, device: Any = None) -> None:
        self.device = device
        self._last: tuple[Tensor, int, Tensor] | None = None

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor on the device."""
        if torch.is_inference(tensor):
            return tensor.to(self.device, copy=True)
        writes = tensor._version
        if self._last is not None:
            source, before, copy = self._last
            if before == writes and _same_view(source, tensor):
                return copy
        copy = tensor.to(self.device, copy=True)
        self._last = (tensor, writes, copy)
        return copy

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Handle `tensor.to(copy_to)`, which torch passes on to its argument's type."""
        tensor, destination = args
        copy: Tensor = destination.copy(tensor)
        return copy


def _same_view(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of equal write counts are the same numbers in the same memory."""
    return (
        first.data_ptr() == second.data_ptr()
        and first.dtype == second.dtype
        and first.shape == second.shape
        and first.stride() == second.stride()
    )
