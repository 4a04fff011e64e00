"""A stream of documents as contexts of tokens: written shard by shard as they are read.

A shard holds a fixed number of rows and is never changed. Its manifest says how many documents
had been taken when it was full, and the shard's file ends with the tokens of the last of them
that are in no row yet: so writing goes on from the last manifest, in this process or in a later
one, and row n is a function of the documents alone.
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

from saecore.data.packing import Packer, Packing, Tokens
from saecore.errors import DataError
from saecore.files import write_bytes
from saecore.randomness import generator


@attrs.frozen
class Manifest:
    """What is known of a shard."""

    rows: int
    """Its rows; fewer than the others' only in the last one."""
    documents: int
    """Number of the document at which reading goes on."""
    rest: int
    """Tokens at the end of the file that belong to rows of the next shard."""
    last: bool
    """Whether the stream ended here."""


class ShardedContexts:
    """`Contexts` of a stream of documents; the order of an epoch is a permutation in each shard.

    Args:
        tokens_from: gives (number, token ids) of the stream's documents from a number on.
        directory: where the shards are.
        rows_per_shard: rows of every shard but the last.
        packing: how documents become rows.
        dtype: the type of token ids on disk.

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
        self._manifests: list[Manifest] = []
        self._packer = Packer(packing)
        self._taken = 0  # documents
        self._new: Iterator[Tokens] | None = None  # rows after the last shard
        self._shard = lru_cache(maxsize=8)(self._mapped)
        self._order = lru_cache(maxsize=8)(self._shard_order)
        while self._file(len(self._manifests), "json").exists():
            self._manifests.append(self._manifest(len(self._manifests)))

    @property
    def context_size(self) -> int:
        """Tokens per row."""
        return self.packing.context_size

    @property
    def total(self) -> int | None:
        """Number of rows; None while the stream has not ended."""
        ended = self._manifests and self._manifests[-1].last
        return sum(one.rows for one in self._manifests) if ended else None

    def count(self, wanted: int) -> int:
        """Read on until there are `wanted` rows or the stream has ended; see `Contexts.count`."""
        while self.total is None and len(self._manifests) * self.rows_per_shard < wanted:
            self._write()
        total = self.total
        return len(self._manifests) * self.rows_per_shard if total is None else total

    def read(self, epoch: int, start: int, stop: int, seed: int) -> NDArray[Any]:
        """Rows of an epoch; see `Contexts.read`."""
        return self._rows(start, stop, lambda shard: self._order(epoch, shard, seed))

    def first(self, number: int) -> NDArray[Any]:
        """The first rows in the order of the stream, or all if there are fewer."""
        stop = min(number, self.count(number))
        return self._rows(0, stop, lambda shard: np.arange(self._manifests[shard].rows))

    def _rows(self, start: int, stop: int, order: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
        self.count(stop)
        rows = np.empty((stop - start, self.context_size), dtype=self._dtype)
        at = start
        while at < stop:
            shard, inside = divmod(at, self.rows_per_shard)
            chosen = order(shard)[inside : inside + stop - at]
            rows[at - start : at - start + len(chosen)] = self._shard(shard)[chosen]
            at += len(chosen)
        return rows

    def _shard_order(self, epoch: int, shard: int, seed: int) -> NDArray[Any]:
        numbers = generator(seed, f"order/{epoch}", shard)
        order = torch.randperm(self._manifests[shard].rows, generator=numbers)
        return np.asarray(order.numpy())

    # -- files -----------------------------------------------------------------------------

    def _file(self, shard: int, ending: str) -> Path:
        return self.directory / f"{shard:06d}.{ending}"

    def _manifest(self, shard: int) -> Manifest:
        try:
            manifest = Manifest(**json.loads(self._file(shard, "json").read_text()))
            tokens = manifest.rows * self.context_size + manifest.rest
            size = self._file(shard, "bin").stat().st_size
            if size != tokens * self._dtype.itemsize:
                raise ValueError(f"{size} bytes in place of {tokens * self._dtype.itemsize}")
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{self._file(shard, 'bin')}: damaged token file ({error}); delete "
                f"{self.directory} and run again"
            ) from error
        return manifest

    def _mapped(self, shard: int) -> NDArray[Any]:
        """Rows of a shard `[rows, context_size]`."""
        shape = (self._manifests[shard].rows, self.context_size)
        return np.memmap(self._file(shard, "bin"), dtype=self._dtype, mode="r", shape=shape)

    # -- writing ---------------------------------------------------------------------------

    def _write(self) -> None:
        """Write the next shard: the file first, its manifest when that is whole."""
        if self._new is None:
            self._new = self._rows_from_here()
        try:
            rows = list(itertools.islice(self._new, self.rows_per_shard))
            last = len(rows) < self.rows_per_shard
            rest = [] if last else self._packer.rest
            tokens = np.concatenate([*rows, np.asarray(rest, dtype=np.int64)]).astype(self._dtype)
            manifest = Manifest(len(rows), self._taken, len(rest), last)
            number, where = len(self._manifests), "the variable SAECORE_CACHE"
            write_bytes(self._file(number, "bin"), tokens.tobytes(), where)
            text = json.dumps(attrs.asdict(manifest))
            write_bytes(self._file(number, "json"), text.encode(), where)
        except BaseException:
            # What was read is lost, and an iterator that failed looks like one that has ended:
            # whoever goes on in this process begins again behind the last shard.
            self._new = None
            raise
        self._manifests.append(manifest)

    def _rows_from_here(self) -> Iterator[Tokens]:
        """Rows after those of the last shard."""
        rest: list[int] = []
        self._taken = 0
        if self._manifests:
            done, file = self._manifests[-1], self._file(len(self._manifests) - 1, "bin")
            skipped = done.rows * self.context_size * self._dtype.itemsize
            rest = np.fromfile(file, self._dtype, offset=skipped).tolist()
            self._taken = done.documents
        self._packer = Packer(self.packing, rest)
        return self._packer.rows(self._documents(self._taken))

    def _documents(self, number: int) -> Iterator[Tokens]:
        for i, tokens in self._tokens_from(number):
            self._taken = i + 1
            yield tokens
