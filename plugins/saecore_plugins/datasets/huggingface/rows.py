"""Rows to documents: the column, the conditions, and conversations through a chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from saecore.data.documents import Document, Documents, DocumentStream
from saecore.errors import DataError, nearest
from saecore_plugins.datasets.huggingface import FilterConfig, HuggingFaceConfig
from saecore_plugins.datasets.huggingface.columns import (
    chosen_column,
    kind_of,
    sampled,
    shortened,
)
from saecore_plugins.datasets.huggingface.opening import Opened, explained, reason


def documents(
    opened: Opened, config: HuggingFaceConfig, tokenizer: Any
) -> Documents | DocumentStream:
    """The rows of an open dataset as documents; see `huggingface.build`."""
    with explained(config, "read"):
        sample = sampled(opened.rows, config)
    column = chosen_column(sample, config)
    kind = kind_of(sample[column])
    if kind == "conversations" and not getattr(tokenizer, "chat_template", None):
        raise DataError(
            f"dataset.column: {column} holds conversations, but the model's tokenizer has no chat "
            "template; use a model that was trained on conversations, or a column of text"
        )
    for i, condition in enumerate(config.filter):
        if condition.column not in sample:
            known = list(sample)
            raise DataError(
                f"dataset.filter[{i}].column: no column {condition.column!r}"
                f"{nearest(condition.column, known)} (columns: {', '.join(known)})"
            )
    settings = {
        "source": opened.source,
        "config": config.config,
        "split": config.split,
        "column": column,
        "filter": [attrs.asdict(one) for one in config.filter],
        "chat_template": str(tokenizer.chat_template) if kind == "conversations" else None,
    }
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    needed = list(dict.fromkeys([column, *(one.column for one in config.filter)]))
    reader = Reader(opened.rows.select_columns(needed), column, kind, config, tokenizer)
    identity = {**opened.identity, "column": column}
    return (RowStream if config.streaming else RowDocuments)(reader, fingerprint, identity)


@attrs.frozen
class Reader:
    """Makes documents of rows."""

    rows: Any
    column: str
    kind: str | None
    config: HuggingFaceConfig
    tokenizer: Any

    def read(self, rows: Any, number: int) -> Iterator[Document]:
        """Documents of rows, the first of which has this number.

        Raises:
            DataError: a row cannot be read, or holds something else than the first ones.
        """
        iterator = iter(rows)
        while True:
            name = f"row {number}"
            with explained(self.config, f"read at {name}"):
                row = next(iterator, None)
            if row is None:
                return
            keep = all(meets(row, one, name) for one in self.config.filter)
            yield self._document(name, row[self.column]) if keep else Document(name)
            number += 1

    def _document(self, name: str, value: Any) -> Document:
        if value is None or value == []:
            return Document(name)
        if kind_of(value) != self.kind:
            raise DataError(
                f"dataset.column: {self.column} holds {self.kind}, but {name} has "
                f"{shortened(value)}; repair the dataset or choose another column"
            )
        if self.kind == "tokens":
            return Document(name, tokens=value)
        return Document(name, value if self.kind == "text" else self._rendered(name, value))

    def _rendered(self, name: str, turns: list[dict[str, Any]]) -> str:
        given = [{k: v for k, v in turn.items() if v is not None} for turn in turns]
        try:
            return str(self.tokenizer.apply_chat_template(given, tokenize=False))
        except Exception as error:  # a template may raise anything
            raise DataError(
                f"dataset: {name}: the tokenizer's chat template refuses the conversation: "
                f"{reason(error)}; repair or leave out the row ([[dataset.filter]])"
            ) from error


def meets(row: Mapping[str, Any], condition: FilterConfig, name: str) -> bool:
    """Whether a row meets a condition."""
    value = row[condition.column]
    if condition.min_length is not None:
        if value is not None and not isinstance(value, str | list):
            raise DataError(
                f"dataset.filter: min_length needs text or a list, but column {condition.column} "
                f"has {shortened(value)} in {name}; use equals or one_of"
            )
        return len(value or ()) >= condition.min_length
    return value in condition.one_of if condition.one_of else bool(value == condition.equals)


class RowDocuments:
    """Rows that are all there, as `Documents`."""

    def __init__(self, reader: Reader, fingerprint: str, identity: dict[str, Any]) -> None:
        self.reader, self.fingerprint, self.identity = reader, fingerprint, identity

    def __len__(self) -> int:
        return len(self.reader.rows)

    def __iter__(self) -> Iterator[Document]:
        return self.reader.read(self.reader.rows, 0)


class RowStream:
    """Rows read as they are needed, as a `DocumentStream`."""

    def __init__(self, reader: Reader, fingerprint: str, identity: dict[str, Any]) -> None:
        self.reader, self.fingerprint, self.identity = reader, fingerprint, identity

    def read_from(self, number: int) -> Iterator[Document]:
        """Documents from this number on; see `DocumentStream.read_from`."""
        rows = self.reader.rows
        return self.reader.read(rows.skip(number) if number else rows, number)
