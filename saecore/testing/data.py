"""The contract of a dataset."""

from __future__ import annotations

from itertools import islice
from typing import Any

from saecore.core.dataset import DocumentStream
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.fakes import Tokenizer


def check_dataset(name: str, settings: Settings = None, *, tokenizer: Any = None) -> None:
    """Check a dataset of documents: order, names, fingerprint. Everything is read twice.

    Args:
        name: as in `dataset.type`.
        settings: its keys in `[dataset]`; files that it reads must exist.
        tokenizer: argument of `build`; default: one whose tokens are words.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("dataset", name, settings)
    subject = choice.component
    first, second = (choice.build(tokenizer or Tokenizer()) for _ in range(2))
    if not hasattr(first, "fingerprint"):
        return  # it provides activations; the contract is saecore.core.activation_store
    if not isinstance(first.fingerprint, str) or not first.fingerprint:
        fail(
            subject,
            f"fingerprint is {first.fingerprint!r}",
            "give a hash of everything that determines the documents: it names the token cache",
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
    for document in documents:
        if not (
            isinstance(getattr(document, "name", None), str) and isinstance(document.text, str)
        ):
            fail(
                subject,
                f"a document is a {type(document).__name__}",
                "yield saecore.core.dataset.Document(name, text)",
            )
    names = [document.name for document in documents]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        fail(
            subject,
            f"two documents are called {repeated!r}",
            "give each its own name: the hash of the name decides whether it is held out",
        )
    texts = [(document.name, document.text) for document in documents]
    for again in (first, second):
        if [(document.name, document.text) for document in again] != texts:
            fail(
                subject,
                "read a second time, the documents differ",
                "start again in one fixed order, such as sorted by name",
            )


def _check_stream(subject: object, stream: DocumentStream) -> None:
    """Check that the first documents, and those from the fourth on, are always the same."""
    first = list(islice(stream.read_from(0), 20))
    for start in (0, min(3, len(first))):
        if list(islice(stream.read_from(start), len(first) - start)) != first[start:]:
            fail(
                subject,
                f"read_from({start}) gives other documents than read_from(0) from there on",
                "count every document, including those that a filter drops, in one fixed order",
            )
