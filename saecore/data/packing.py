"""Documents of tokens to rows of one length."""

from __future__ import annotations

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
    rows = _concatenated(documents, packing) if packing.concat else _single(documents, packing)
    for row in rows:
        yield np.asarray(row, dtype=np.int64)


def _prefix(tokens: list[int | None], following: int) -> list[int]:
    """Those prefix tokens that differ from the token after them."""
    kept: list[int] = []
    for token in reversed(tokens):
        if token is not None and token != following:
            kept.insert(0, token)
            following = token
    return kept


def _concatenated(documents: Iterable[Tokens], packing: Packing) -> Iterator[list[int]]:
    row: list[int] = []
    for document in documents:
        if not len(document):
            continue
        # A separator separates: it is not wanted where a document begins a row.
        between = packing.separator if row else None
        rest = [*_prefix([between, packing.begin_document], int(document[0])), *document.tolist()]
        at = 0
        while at < len(rest):
            if not row:
                row = _prefix([packing.begin_context], rest[at])
            taken = rest[at : at + packing.context_size - len(row)]
            row += taken
            at += len(taken)
            if len(row) == packing.context_size:
                yield row
                row = []


def _single(documents: Iterable[Tokens], packing: Packing) -> Iterator[list[int]]:
    for document in documents:
        if not len(document):
            continue
        begin = packing.begin_document
        begin = packing.begin_context if begin is None else begin
        prefix = _prefix([begin], int(document[0]))
        row = [*prefix, *document[: packing.context_size].tolist()]
        if len(row) >= packing.context_size:
            yield row[: packing.context_size]
