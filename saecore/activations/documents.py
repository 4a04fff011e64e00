"""The held-out split: which documents, or parts of documents, are never trained on."""

from __future__ import annotations

import hashlib
from typing import Any

from saecore.core.dataset import Document, Documents, DocumentStream

SIDES = ("train", "held_out")
"""Names of the two sides of the split."""

FEW = 20
"""Below this number of documents, each is cut in two instead of being held out as a whole."""


def identity(documents: Documents | DocumentStream) -> dict[str, Any]:
    """The documents' optional `identity` (name, revision, …), recorded with a run."""
    return dict(getattr(documents, "identity", {}))


def held_out(name: str, share: float) -> bool:
    """Whether a document is held out: the first byte of sha256(name) is below 256 · share.

    Shares are rounded up to the next 1/256: 0.05 gives the 13/256 that the embedded model's card
    names.
    """
    limit = -int(-256 * share // 1)
    return hashlib.sha256(name.encode()).digest()[0] < limit


def parts(document: Document, share: float, few: bool) -> tuple[Document, Document]:
    """Split a document into the part to train on and the part held out.

    Args:
        document: the document.
        share: share of the documents, or of each document, to hold out.
        few: cut every document in two, because there are fewer than `FEW`.
    """
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
    space = max(text.rfind(blank, 0, cut) for blank in (" ", "\n"))
    cut = space + 1 if space >= 0 else cut
    return Document(name, text[:cut]), Document(name, text[cut:])
