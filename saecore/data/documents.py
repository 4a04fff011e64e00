"""Named documents of text, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

import attrs


@attrs.frozen
class Document:
    """One text with a name that stays the same from run to run."""

    name: str
    text: str


class Documents(Protocol):
    """What a dataset component gives: texts in a fixed order.

    `len(documents)` is their number; `fingerprint` is a hash of everything that decides them.
    """

    fingerprint: str

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Document]: ...


def held_out(name: str, share: float) -> bool:
    """Whether a document is held out: the first byte of sha256(name) is below 256 · share.

    0.05 gives the 13 of 256 that the embedded model's card names; shares are rounded up to the
    next 1/256.
    """
    limit = -int(-256 * share // 1)
    return hashlib.sha256(name.encode()).digest()[0] < limit


FEW = 20
"""Below this many documents each is cut in two, instead of being held out as a whole."""


def parts(document: Document, share: float, few: bool) -> tuple[str, str]:
    """The text of a document to train on, and the text held out."""
    if share == 0:
        return document.text, ""
    if not few:
        return ("", document.text) if held_out(document.name, share) else (document.text, "")
    cut = len(document.text) - int(len(document.text) * share)
    space = max(document.text.rfind(one, 0, cut) for one in (" ", "\n"))
    cut = space + 1 if space >= 0 else cut
    return document.text[:cut], document.text[cut:]
