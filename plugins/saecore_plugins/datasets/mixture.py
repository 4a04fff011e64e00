"""Several datasets interleaved by weight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import attrs

from saecore.activations.documents import identity
from saecore.core.dataset import Document, Documents, DocumentStream
from saecore.errors import DataError
from saecore.plugins import Choice, Component, above, hookimpl, inline


@attrs.frozen
class SourceConfig:
    """One of the datasets."""

    loader: Choice = inline("dataset")
    """The dataset component; its own keys stand in the same table."""
    weight: float = attrs.field(default=1.0, validator=above(0))
    """Its share of the documents, relative to the other weights."""


@attrs.frozen
class MixtureConfig:
    """Which datasets; the mixture ends where the first of them ends."""

    source: tuple[SourceConfig, ...]
    """The datasets, each a table [[dataset.source]] with a weight beside the dataset's own keys."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a mixture without datasets."""
        if not self.source:
            yield "source", "expected at least one table [[dataset.source]], got none"


def turns(weights: Sequence[float]) -> Iterator[int]:
    """The source of each document in turn: the one with the lowest (documents so far + 1) / weight.

    Of the first n documents, each source has given n · weight / sum, within a few documents; ties
    go to the first source. Nothing is random, so any part of the order can be recomputed.
    """
    counts = [0] * len(weights)
    while True:
        turn = min(range(len(weights)), key=lambda i: ((counts[i] + 1) / weights[i], i))
        counts[turn] += 1
        yield turn


class Mixture:
    """Base of mixtures of countable datasets and of streams.

    Args:
        sources: the datasets.
        weights: their weights.
    """

    def __init__(self, sources: Sequence[Documents | DocumentStream], weights: list[float]) -> None:
        self.sources, self.weights = sources, weights
        parts = [
            (source.fingerprint, weight) for source, weight in zip(sources, weights, strict=True)
        ]
        self.fingerprint = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self.identity = {"sources": [identity(source) for source in sources], "weights": weights}

    def documents(self, number: int) -> Iterator[Document]:
        """All documents from this number on, until a source runs out at its turn."""
        begins = [0] * len(self.sources)
        order = turns(self.weights)
        for turn in islice(order, number):
            begins[turn] += 1
        readers = [_reader(source, at) for source, at in zip(self.sources, begins, strict=True)]
        for turn in order:
            document = next(readers[turn], None)
            if document is None:
                return
            yield attrs.evolve(document, name=f"{turn}/{document.name}")


class MixedStream(Mixture):
    """A mixture that contains a stream."""

    def read_from(self, number: int) -> Iterator[Document]:
        """All documents from this number on; see `DocumentStream.read_from`."""
        return self.documents(number)


class MixedDocuments(Mixture):
    """A mixture that can be counted."""

    def __len__(self) -> int:
        left = [len(source) for source in self.sources]  # type: ignore[arg-type]
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
    """Build the datasets and mix them; the mixture is a stream if any of them is.

    Raises:
        DataError: one of them cannot be built, or is not a dataset of text.
    """
    sources = []
    for index, table in enumerate(config.source):
        source = table.loader.build(tokenizer)
        if not hasattr(source, "fingerprint") or not (
            isinstance(source, DocumentStream) or hasattr(source, "__len__")
        ):
            raise DataError(
                f"dataset.source[{index}].type: {table.loader.name} gives no documents; expected "
                "a dataset of text"
            )
        sources.append(source)
    streamed = any(isinstance(source, DocumentStream) for source in sources)
    return (MixedStream if streamed else MixedDocuments)(
        sources, [table.weight for table in config.source]
    )


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dataset",
        name="mixture",
        config=MixtureConfig,
        build=build,
        summary="several datasets interleaved by weight",
    )
