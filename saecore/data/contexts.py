"""What a window reads: contexts of tokens, in an order of their own for every epoch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from saecore.randomness import generator


class Contexts(Protocol):
    """Rows of tokens, read in a shuffled order that is a function of seed and epoch.

    Their number may be unknown until they have been read to the end.
    """

    @property
    def context_size(self) -> int:
        """Tokens per row."""
        ...

    @property
    def total(self) -> int | None:
        """Number of rows; None while that is not known."""
        ...

    def count(self, wanted: int) -> int:
        """At least `wanted` if there are as many rows, their number if there are fewer.

        Raises:
            DataError: the text cannot be read.
        """
        ...

    def read(self, epoch: int, start: int, stop: int, seed: int) -> NDArray[Any]:
        """Rows `start` to `stop` in the order of an epoch, `[stop - start, context_size]`."""
        ...


class ArrayContexts:
    """Contexts that are all there; an epoch is a permutation of the whole.

    Args:
        rows: tokens `[n, context_size]`.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        self.rows = rows
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    @property
    def context_size(self) -> int:
        """Tokens per row."""
        return int(self.rows.shape[1])

    @property
    def total(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def count(self, wanted: int) -> int:
        """The number of rows, whatever is wanted."""
        return len(self.rows)

    def read(self, epoch: int, start: int, stop: int, seed: int) -> NDArray[Any]:
        """Rows of an epoch; see `Contexts.read`."""
        return np.asarray(self.rows[self._order(epoch, seed)[start:stop]])

    def _epoch_order(self, epoch: int, seed: int) -> NDArray[Any]:
        order = torch.randperm(len(self.rows), generator=generator(seed, "order", epoch))
        return np.asarray(order.numpy())


class InOrder(ArrayContexts):
    """Contexts that are all there, read as they stand in every epoch."""

    def read(self, epoch: int, start: int, stop: int, seed: int) -> NDArray[Any]:
        """Rows as they stand; see `Contexts.read`."""
        return np.asarray(self.rows[start:stop])
