"""Named documents of text, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import attrs


@attrs.frozen
class Document:
    """One text, or its tokens, with a name that stays the same from run to run."""

    name: str
    text: str = ""
    tokens: Sequence[int] | None = None
    """Token ids, if the document comes tokenised; the text is not read then."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tokenise."""
        return not (self.text if self.tokens is None else len(self.tokens))


class Documents(Protocol):
    """What a dataset component gives: documents in a fixed order.

    `len(documents)` is their number; `fingerprint` is a hash of everything that decides them. An
    attribute `identity` (a dict: name, revision, …), where there is one, is recorded with the run.
    """

    fingerprint: str

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Document]: ...


@runtime_checkable
class DocumentStream(Protocol):
    """Documents too many to be counted, read as they are needed; the order is fixed, too.

    `fingerprint` and `identity` as in `Documents`.
    """

    fingerprint: str

    def read_from(self, number: int) -> Iterator[Document]:
        """All documents from this number on.

        A document left out by a filter counts: it is given without text.

        Raises:
            DataError: the documents cannot be read.
        """
        ...


def identity(documents: Documents | DocumentStream) -> dict[str, Any]:
    """What a run records of its documents: what they give as `identity`, or nothing."""
    return dict(getattr(documents, "identity", {}))


def held_out(name: str, share: float) -> bool:
    """Whether a document is held out: the first byte of sha256(name) is below 256 · share.

    0.05 gives the 13 of 256 that the embedded model's card names; shares are rounded up to the
    next 1/256.
    """
    limit = -int(-256 * share // 1)
    return hashlib.sha256(name.encode()).digest()[0] < limit


FEW = 20
"""Below this many documents each is cut in two, instead of being held out as a whole."""


def parts(document: Document, share: float, few: bool) -> tuple[Document, Document]:
    """The part of a document to train on, and the part held out."""
    name, nothing = document.name, Document(document.name)
    if share == 0:
        return document, nothing
    if not few:
        return (nothing, document) if held_out(name, share) else (document, nothing)
    if document.tokens is not None:
        tokens = document.tokens
        cut = len(tokens) - int(len(tokens) * share)
        return Document(name, tokens=tokens[:cut]), Document(name, tokens=tokens[cut:])
    text = document.text
    cut = len(text) - int(len(text) * share)
    space = max(text.rfind(one, 0, cut) for one in (" ", "\n"))
    cut = space + 1 if space >= 0 else cut
    return Document(name, text[:cut]), Document(name, text[cut:])
