"""Several datasets as one, interleaved by weight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import attrs

from saecore.components import Choice, Component, inline
from saecore.config.validators import above
from saecore.data.documents import Document, Documents, DocumentStream, identity
from saecore.errors import DataError
from saecore.hookspecs import hookimpl


@attrs.frozen
class SourceConfig:
    """One of the datasets."""

    plugin: Choice = inline("dataset")
    """The dataset component; its own keys stand in the same table."""
    weight: float = attrs.field(default=1.0, validator=above(0))
    """Share of the documents that come from it, relative to the other weights."""


@attrs.frozen
class MixtureConfig:
    """Which datasets; the mixture ends where the first of them does."""

    source: tuple[SourceConfig, ...]
    """The datasets, each a table [[dataset.source]] with a weight beside the dataset's own keys."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a mixture of nothing."""
        if not self.source:
            yield "source", "expected at least one table [[dataset.source]], got none"


def turns(weights: Sequence[float]) -> Iterator[int]:
    """The source of every document: the one whose next document lies lowest in (n + 1) / weight.

    Of any first n documents each source has given n · weight / sum within a few documents; ties
    go to the source that stands first. Nothing is random, so any part can be counted again.
    """
    given = [0] * len(weights)
    while True:
        turn = min(range(len(weights)), key=lambda i: ((given[i] + 1) / weights[i], i))
        given[turn] += 1
        yield turn


class Mixture:
    """What a mixture of countable datasets and of streams have in common.

    Args:
        sources: the datasets.
        weights: one for each.
    """

    def __init__(self, sources: Sequence[Documents | DocumentStream], weights: list[float]) -> None:
        self.sources, self.weights = sources, weights
        parts = [(one.fingerprint, weight) for one, weight in zip(sources, weights, strict=True)]
        self.fingerprint = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self.identity = {"sources": [identity(one) for one in sources], "weights": weights}

    def documents(self, number: int) -> Iterator[Document]:
        """All documents from this number on, until a source has no document for its turn."""
        begins = [0] * len(self.sources)
        order = turns(self.weights)
        for turn in islice(order, number):
            begins[turn] += 1
        readers = [_reader(one, at) for one, at in zip(self.sources, begins, strict=True)]
        for turn in order:
            document = next(readers[turn], None)
            if document is None:
                return
            yield attrs.evolve(document, name=f"{turn}/{document.name}")


class MixedStream(Mixture):
    """A mixture with a stream in it."""

    def read_from(self, number: int) -> Iterator[Document]:
        """All documents from this number on; see `DocumentStream.read_from`."""
        return self.documents(number)


class MixedDocuments(Mixture):
    """A mixture that can be counted."""

    def __len__(self) -> int:
        left = [len(one) for one in self.sources]  # type: ignore[arg-type]
        for number, turn in enumerate(turns(self.weights)):
            if not left[turn]:
                return number
            left[turn] -= 1
        raise AssertionError("turns never end")

    def __iter__(self) -> Iterator[Document]:
        return self.documents(0)


def _reader(source: Documents | DocumentStream, number: int) -> Iterator[Document]:
    if isinstance(source, DocumentStream):
        return source.read_from(number)
    return islice(iter(source), number, None)


def build(config: MixtureConfig, tokenizer: Any) -> MixedDocuments | MixedStream:
    """Build the datasets and mix them; a stream among them makes the whole a stream.

    Raises:
        DataError: one of them cannot be built, or is no dataset of text.
    """
    sources = []
    for i, one in enumerate(config.source):
        source = one.plugin.build(tokenizer)
        if not hasattr(source, "fingerprint") or not (
            isinstance(source, DocumentStream) or hasattr(source, "__len__")
        ):
            raise DataError(
                f"dataset.source[{i}].type: {one.plugin.name} gives no documents; a mixture takes "
                "datasets of text"
            )
        sources.append(source)
    streamed = any(isinstance(one, DocumentStream) for one in sources)
    return (MixedStream if streamed else MixedDocuments)(
        sources, [one.weight for one in config.source]
    )


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the dataset."""
    yield Component(
        kind="dataset",
        name="mixture",
        config=MixtureConfig,
        build=build,
        summary="several datasets interleaved by weight",
    )
