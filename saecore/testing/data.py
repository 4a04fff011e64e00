"""The contract of a dataset."""

from __future__ import annotations

from itertools import islice
from typing import Any

from saecore.data.documents import DocumentStream
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.fakes import Tokenizer


def check_dataset(name: str, settings: Settings = None, *, tokenizer: Any = None) -> None:
    """Check a dataset of documents: order, names, fingerprint. Everything is read twice.

    Args:
        name: as in `dataset.type`.
        settings: its keys in `[dataset]`; where it reads files, they must be there.
        tokenizer: what `build` is given; default: one that takes words as tokens.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("dataset", name, settings)
    subject = choice.component
    first, second = (choice.build(tokenizer or Tokenizer()) for _ in range(2))
    if not hasattr(first, "fingerprint"):
        return  # a source of activations; its contract is saecore.data.source.ActivationSource
    if not isinstance(first.fingerprint, str) or not first.fingerprint:
        fail(
            subject,
            f"fingerprint is {first.fingerprint!r}",
            "give a hash of everything that decides the documents: it names the token cache",
        )
    if first.fingerprint != second.fingerprint:
        fail(
            subject,
            "two builds have different fingerprints",
            "hash names and contents, not times or addresses",
        )
    if isinstance(first, DocumentStream):
        _check_stream(subject, first)
        return
    documents = list(first)
    if len(first) != len(documents) or not documents:
        fail(
            subject,
            f"len() is {len(first)}, and {len(documents)} documents come",
            "give the number of documents, at least one",
        )
    for one in documents:
        if not (isinstance(getattr(one, "name", None), str) and isinstance(one.text, str)):
            fail(
                subject,
                f"a document is a {type(one).__name__}",
                "yield saecore.data.documents.Document(name, text)",
            )
    names = [one.name for one in documents]
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        fail(
            subject,
            f"two documents are called {twice!r}",
            "give each its own name: the hash of the name decides whether it is held out",
        )
    for again in (first, second):
        if [(one.name, one.text) for one in again] != [(one.name, one.text) for one in documents]:
            fail(
                subject,
                "read a second time, the documents differ",
                "iterate anew in one fixed order, such as sorted by name",
            )


def _check_stream(subject: object, stream: DocumentStream) -> None:
    """The first documents, and those from the fourth on, are the same whenever they are read."""
    first = list(islice(stream.read_from(0), 20))
    for start in (0, min(3, len(first))):
        if list(islice(stream.read_from(start), len(first) - start)) != first[start:]:
            fail(
                subject,
                f"read_from({start}) gives other documents than read_from(0) from there on",
                "count every document, also those that a filter leaves out, in one fixed order",
            )
