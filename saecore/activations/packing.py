"""Packing tokenized documents into contexts of one length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


@attrs.frozen(kw_only=True)
class Packing:
    """How documents become contexts; a token of None is not inserted."""

    context_size: int
    """Tokens per row."""
    begin_context: int | None = None
    """Token at the beginning of every row."""
    begin_document: int | None = None
    """Token at the beginning of every document."""
    separator: int | None = None
    """Token between two documents of a row."""
    concat: bool = True
    """Concatenate documents; false keeps only documents that fill a row."""


def pack(documents: Iterable[Tokens], packing: Packing) -> Iterator[Tokens]:
    """Pack documents into rows `[context_size]`; an incomplete last row is dropped.

    A prefix token (beginning of row, separator, beginning of document) is inserted only if the
    next token differs from it, so it is never doubled. Rows equal those of SAELens 6.
    """
    return Packer(packing).rows(documents)


class Packer:
    """Packing that can be resumed after any row; see `pack`.

    Args:
        packing: how documents become rows.
        rest: the `rest` of the packer to resume from.
    """

    def __init__(self, packing: Packing, rest: Iterable[int] = ()) -> None:
        self.packing = packing
        self._tokens = list(rest)  # of the current document, with its prefix
        self._used = 0

    @property
    def rest(self) -> list[int]:
        """Tokens of the current document that are in no row yet; valid after a row."""
        return self._tokens[self._used :]

    def rows(self, documents: Iterable[Tokens]) -> Iterator[Tokens]:
        """Pack the rest of the resumed document, then more documents."""
        for row in (
            self._concatenated(documents) if self.packing.concat else self._single(documents)
        ):
            yield np.asarray(row, dtype=np.int64)

    def _concatenated(self, documents: Iterable[Tokens]) -> Iterator[list[int]]:
        row: list[int] = []
        packing, size = self.packing, self.packing.context_size
        for document in itertools.chain([None], documents):  # None: the rest comes first
            if document is not None:
                if not len(document):
                    continue
                # No separator before the first document of a row.
                between = packing.separator if row else None
                prefix = _prefix([between, packing.begin_document], int(document[0]))
                self._tokens, self._used = [*prefix, *document.tolist()], 0
            while self._used < len(self._tokens):
                if not row:
                    row = _prefix([packing.begin_context], self._tokens[self._used])
                taken = self._tokens[self._used : self._used + size - len(row)]
                row += taken
                self._used += len(taken)
                if len(row) == size:
                    yield row
                    row = []

    def _single(self, documents: Iterable[Tokens]) -> Iterator[list[int]]:
        for document in documents:
            if not len(document):
                continue
            begin = self.packing.begin_document
            begin = self.packing.begin_context if begin is None else begin
            prefix = _prefix([begin], int(document[0]))
            row = [*prefix, *document[: self.packing.context_size].tolist()]
            if len(row) >= self.packing.context_size:
                yield row[: self.packing.context_size]


def _prefix(tokens: list[int | None], following: int) -> list[int]:
    """The prefix tokens that differ from the token after them."""
    prefix: list[int] = []
    for token in reversed(tokens):
        if token is not None and token != following:
            prefix.insert(0, token)
            following = token
    return prefix
