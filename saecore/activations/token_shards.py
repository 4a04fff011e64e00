"""Contexts of a document stream, written shard by shard as they are read.

A shard holds a fixed number of rows and never changes. Its record says how many documents had
been taken when it was full, and its file ends with those tokens of the last document that are in
no row yet. Writing therefore resumes after the last record, in this process or a later one, and
row n is a function of the documents alone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from saecore.activations.packing import Packer, Packing, Tokens
from saecore.errors import DataError
from saecore.randomness import generator
from saecore.storage.files import write_bytes


@attrs.frozen(kw_only=True)
class TokenShard:
    """The record of a shard."""

    rows: int
    """Rows in the shard; only the last shard may have fewer than the others."""
    documents: int
    """Number of the document from which to continue reading."""
    rest: int
    """Tokens at the end of the file that belong to rows of the next shard."""
    last: bool
    """Whether the stream ended in this shard."""


class ShardedContexts:
    """`Contexts` of a document stream; an epoch permutes the rows within each shard.

    Args:
        tokens_from: returns (number, token ids) of the stream's documents from a number on.
        directory: directory of the shards.
        rows_per_shard: rows of every shard but the last.
        packing: how documents become rows.
        dtype: type of token ids on disk.

    Raises:
        DataError: a shard in the directory is damaged.
    """

    def __init__(
        self,
        tokens_from: Callable[[int], Iterator[tuple[int, Tokens]]],
        directory: Path,
        rows_per_shard: int,
        packing: Packing,
        dtype: Any,
    ) -> None:
        self.directory, self.rows_per_shard, self.packing = directory, rows_per_shard, packing
        self._tokens_from, self._dtype = tokens_from, np.dtype(dtype)
        self._records: list[TokenShard] = []
        self._packer = Packer(packing)
        self._taken = 0  # documents
        self._new: Iterator[Tokens] | None = None  # rows after the last shard
        self._shard = lru_cache(maxsize=8)(self._mapped)
        self._order = lru_cache(maxsize=8)(self._shard_order)
        while self._file(len(self._records), "json").exists():
            self._records.append(self._read_record(len(self._records)))

    @property
    def context_size(self) -> int:
        """Tokens per row."""
        return self.packing.context_size

    @property
    def total(self) -> int | None:
        """Number of rows; None until the stream has ended."""
        ended = self._records and self._records[-1].last
        return sum(shard.rows for shard in self._records) if ended else None

    def count(self, needed: int) -> int:
        """Read until there are `needed` rows or the stream ends; see `Contexts.count`."""
        while self.total is None and len(self._records) * self.rows_per_shard < needed:
            self._write()
        total = self.total
        return len(self._records) * self.rows_per_shard if total is None else total

    def read(self, epoch: int, start: int, stop: int, seed: int) -> NDArray[Any]:
        """Rows of an epoch; see `Contexts.read`."""
        return self._rows(start, stop, lambda shard: self._order(epoch, shard, seed))

    def first(self, number: int) -> NDArray[Any]:
        """The first rows in the order of the stream; all if there are fewer."""
        stop = min(number, self.count(number))
        return self._rows(0, stop, lambda shard: np.arange(self._records[shard].rows))

    def _rows(self, start: int, stop: int, order: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
        self.count(stop)
        rows = np.empty((stop - start, self.context_size), dtype=self._dtype)
        at = start
        while at < stop:
            shard, offset = divmod(at, self.rows_per_shard)
            indices = order(shard)[offset : offset + stop - at]
            rows[at - start : at - start + len(indices)] = self._shard(shard)[indices]
            at += len(indices)
        return rows

    def _shard_order(self, epoch: int, shard: int, seed: int) -> NDArray[Any]:
        random = generator(seed, f"order/{epoch}", shard)
        order = torch.randperm(self._records[shard].rows, generator=random)
        return np.asarray(order.numpy())

    # -- files -----------------------------------------------------------------------------

    def _file(self, shard: int, suffix: str) -> Path:
        return self.directory / f"{shard:06d}.{suffix}"

    def _read_record(self, shard: int) -> TokenShard:
        try:
            record = TokenShard(**json.loads(self._file(shard, "json").read_text()))
            tokens = record.rows * self.context_size + record.rest
            size = self._file(shard, "bin").stat().st_size
            if size != tokens * self._dtype.itemsize:
                raise ValueError(f"{size} bytes, expected {tokens * self._dtype.itemsize}")
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{self._file(shard, 'bin')}: damaged token file ({error}); delete "
                f"{self.directory} and run again"
            ) from error
        return record

    def _mapped(self, shard: int) -> NDArray[Any]:
        """Rows of a shard `[rows, context_size]`."""
        shape = (self._records[shard].rows, self.context_size)
        return np.memmap(self._file(shard, "bin"), dtype=self._dtype, mode="r", shape=shape)

    # -- writing ---------------------------------------------------------------------------

    def _write(self) -> None:
        """Write the next shard: the file first, its record once the file is complete."""
        if self._new is None:
            self._new = self._rows_after_last_shard()
        try:
            rows = list(itertools.islice(self._new, self.rows_per_shard))
            last = len(rows) < self.rows_per_shard
            rest = [] if last else self._packer.rest
            tokens = np.concatenate([*rows, np.asarray(rest, dtype=np.int64)]).astype(self._dtype)
            record = TokenShard(rows=len(rows), documents=self._taken, rest=len(rest), last=last)
            number, setting = len(self._records), "the variable SAECORE_CACHE"
            write_bytes(self._file(number, "bin"), tokens.tobytes(), setting)
            text = json.dumps(attrs.asdict(record))
            write_bytes(self._file(number, "json"), text.encode(), setting)
        except BaseException:
            # The rows read so far are lost, and a failed iterator looks like an exhausted one:
            # a retry in this process must start again after the last shard.
            self._new = None
            raise
        self._records.append(record)

    def _rows_after_last_shard(self) -> Iterator[Tokens]:
        """Rows that follow those of the last shard."""
        rest: list[int] = []
        self._taken = 0
        if self._records:
            shard, file = self._records[-1], self._file(len(self._records) - 1, "bin")
            size = shard.rows * self.context_size * self._dtype.itemsize
            rest = np.fromfile(file, self._dtype, offset=size).tolist()
            self._taken = shard.documents
        self._packer = Packer(self.packing, rest)
        return self._packer.rows(self._documents(self._taken))

    def _documents(self, number: int) -> Iterator[Tokens]:
        for index, tokens in self._tokens_from(number):
            self._taken = index + 1
            yield tokens
