"""Prefetching: each training step computes a small part of the next fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Work done in parts, on a GPU on a separate CUDA stream.

    On a GPU the parts run beside the training on the default stream, and `take` makes that stream,
    not the host, wait for them. The result does not depend on the overlap. On a CPU nothing would
    overlap, and the last fill of a run would be wasted, so `FillMixer` does not prefetch there.

    Args:
        device: where the parts run.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._parts: Iterator[T] | None = None
        self._number = self._count = self._done = 0
        self._last: T | None = None

    def begin(self, number: int, count: int, parts: Iterator[T]) -> None:
        """Start a piece of work; any earlier one is dropped.

        Args:
            number: identifies the work.
            count: approximate number of its parts.
            parts: does one part per item; the last item is the result.
        """
        self._number, self._count, self._done = number, count, 0
        self._parts, self._last = parts, None
        if self._stream is not None:  # the parts read what the default stream has written
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    def advance(self, share: float) -> None:
        """Do parts until this share of them, 0 to 1, is done."""
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            while self._parts is not None and self._done < share * self._count:
                try:
                    self._last = next(self._parts)
                except StopIteration:
                    self._parts = None
                self._done += 1

    def take(self, number: int, tensors: Callable[[T], list[Tensor]]) -> T | None:
        """Finish a piece of work and return its result, once; None if it was not started.

        Args:
            number: identifies the work.
            tensors: the result's tensors on the device.
        """
        if number != self._number or (self._parts is None and self._last is None):
            return None
        self.advance(float("inf"))
        result, self._last = self._last, None
        if self._stream is not None and result is not None:
            current = torch.cuda.current_stream(self._stream.device)
            current.wait_stream(self._stream)
            for tensor in tensors(result):
                tensor.record_stream(current)
        return result
