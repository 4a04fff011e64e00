"""Documents of tokens to rows of one length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


@attrs.frozen
class Packing:
    """How documents become contexts; a token that is None is not used."""

    context_size: int
    """Tokens per row."""
    begin_context: int | None = None
    """Token that begins every row."""
    begin_document: int | None = None
    """Token that begins every document."""
    separator: int | None = None
    """Token between two documents of one row."""
    concat: bool = True
    """Put documents one after another; false keeps only documents that fill a row."""


def pack(documents: Iterable[Tokens], packing: Packing) -> Iterator[Tokens]:
    """Cut documents into rows `[context_size]`; what is left at the end is dropped.

    A prefix token (beginning of row, separator, beginning of document) is written only where the
    token after it differs from it, so that it never stands twice. Rows equal SAELens 6's.
    """
    return Packer(packing).rows(documents)


class Packer:
    """Packing that can be taken up again after any row: see `pack`.

    Args:
        packing: how documents become rows.
        rest: what an earlier packer left in `rest`.
    """

    def __init__(self, packing: Packing, rest: Iterable[int] = ()) -> None:
        self.packing = packing
        self._tokens = list(rest)  # of the present document, with its prefix
        self._used = 0

    @property
    def rest(self) -> list[int]:
        """After a row: the tokens of the present document that are in no row yet."""
        return self._tokens[self._used :]

    def rows(self, documents: Iterable[Tokens]) -> Iterator[Tokens]:
        """Rows of the rest, then of more documents."""
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
                # A separator separates: it is not wanted where a document begins a row.
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
    """Those prefix tokens that differ from the token after them."""
    kept: list[int] = []
    for token in reversed(tokens):
        if token is not None and token != following:
            kept.insert(0, token)
            following = token
    return kept
