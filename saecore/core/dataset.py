"""Documents of text, counted or streamed, and sources of ready-made tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    from saecore.activations.packing import Packing
    from saecore.activations.token_cache import TokenRows


@attrs.frozen
class Document:
    """One text or its tokens, with a name that is stable from run to run."""

    name: str
    text: str = ""
    tokens: Sequence[int] | None = None
    """Token ids of a document that is already tokenized; its text is then ignored."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tokenize."""
        return not (self.text if self.tokens is None else len(self.tokens))


class Documents(Protocol):
    """Documents in a fixed order, as dataset components build them.

    `fingerprint` is a hash of everything that determines the documents. The optional attribute
    `identity` (a dict: name, revision, …) is recorded with the run.
    """

    fingerprint: str

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Document]: ...


@runtime_checkable
class DocumentStream(Protocol):
    """Too many documents to count, read as needed, also in a fixed order.

    `fingerprint` and `identity` as in `Documents`.
    """

    fingerprint: str

    def read_from(self, number: int) -> Iterator[Document]:
        """Iterate over all documents from this index on.

        A document that a filter drops still counts: it comes without text.

        Raises:
            DataError: the documents cannot be read.
        """
        ...


class TokenSource(Protocol):
    """A dataset of contexts that were tokenized and packed before."""

    def rows(
        self, packing: Packing, tokenizer: Any, vocab_size: int, share: float, evaluated: int
    ) -> TokenRows:
        """The contexts, if they were prepared with these settings.

        Raises:
            DataError: they were prepared with other settings.
        """
        ...
