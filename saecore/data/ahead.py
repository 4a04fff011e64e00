"""The next fill of the window, made a little in every step while the SAE trains on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Ahead(Generic[T]):
    """Work of many parts, done in parts, on a GPU on a stream of its own.

    There the parts run beside the training that the default stream does, and `take` makes that
    stream wait for them, not the host. What is made depends on neither. On a CPU there is nothing
    to run beside, and the last fill of a run would be made for nobody: the window does not ask.

    Args:
        device: where the parts run.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._parts: Iterator[T] | None = None
        self._number = self._count = self._done = 0
        self._last: T | None = None

    def begin(self, number: int, count: int, parts: Iterator[T]) -> None:
        """Take on work instead of any that there was.

        Args:
            number: of the work.
            count: about how many parts it has.
            parts: does one part a turn; the last turn gives the result.
        """
        self._number, self._count, self._done = number, count, 0
        self._parts, self._last = parts, None
        if self._stream is not None:  # what it reads has been written on the default stream
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    def advance(self, share: float) -> None:
        """Do parts until `share` of them, 0 to 1, are done."""
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            while self._parts is not None and self._done < share * self._count:
                try:
                    self._last = next(self._parts)
                except StopIteration:
                    self._parts = None
                self._done += 1

    def take(self, number: int, tensors: Callable[[T], list[Tensor]]) -> T | None:
        """The result of the work `number`, brought to its end; None if it is not this one's.

        Args:
            number: the work.
            tensors: those of the result that live on the device.
        """
        if number != self._number or (self._parts is None and self._last is None):
            return None
        self.advance(float("inf"))
        result, self._last = self._last, None
        if self._stream is not None and result is not None:
            current = torch.cuda.current_stream(self._stream.device)
            current.wait_stream(self._stream)
            for one in tensors(result):
                one.record_stream(current)
        return result
