"""Contexts of tokens in a shuffled order for every epoch: what an activation store reads."""

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
        """Number of rows; None while unknown."""
        ...

    def count(self, needed: int) -> int:
        """Count rows, reading no further than needed.

        Returns:
            At least `needed` if there are that many rows, else their number.

        Raises:
            DataError: the text cannot be read.
        """
        ...

    def read(self, epoch: int, start: int, stop: int, seed: int) -> NDArray[Any]:
        """Rows `start` to `stop` in the order of an epoch, `[stop - start, context_size]`."""
        ...


class ArrayContexts:
    """Contexts in one array; an epoch is a permutation of all of them.

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

    def count(self, needed: int) -> int:
        """The number of rows, whatever is needed."""
        return len(self.rows)

    def read(self, epoch: int, start: int, stop: int, seed: int) -> NDArray[Any]:
        """Rows of an epoch; see `Contexts.read`."""
        return np.asarray(self.rows[self._order(epoch, seed)[start:stop]])

    def _epoch_order(self, epoch: int, seed: int) -> NDArray[Any]:
        order = torch.randperm(len(self.rows), generator=generator(seed, "order", epoch))
        return np.asarray(order.numpy())


class InOrder(ArrayContexts):
    """Contexts in one array, read in its order in every epoch."""

    def read(self, epoch: int, start: int, stop: int, seed: int) -> NDArray[Any]:
        """Rows in the array's order; see `Contexts.read`."""
        return np.asarray(self.rows[start:stop])
