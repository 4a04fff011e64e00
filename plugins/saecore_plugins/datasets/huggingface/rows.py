"""Documents from rows: the column, the filters, and the chat template for conversations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from saecore.core.dataset import Document, Documents, DocumentStream
from saecore.errors import DataError, nearest
from saecore_plugins.datasets.huggingface.columns import (
    chosen_column,
    kind_of,
    sample_values,
    shortened,
)
from saecore_plugins.datasets.huggingface.config import FilterConfig, HuggingFaceConfig
from saecore_plugins.datasets.huggingface.opening import OpenRows, dataset_errors, reason


def documents(
    opened: OpenRows, config: HuggingFaceConfig, tokenizer: Any
) -> Documents | DocumentStream:
    """The rows of an open dataset as documents; see `huggingface.build`."""
    with dataset_errors(config, "read"):
        sample = sample_values(opened.rows, config)
    column = chosen_column(sample, config)
    kind = kind_of(sample[column])
    if kind == "conversations" and not getattr(tokenizer, "chat_template", None):
        raise DataError(
            f"dataset.column: {column} holds conversations, but the model's tokenizer has no chat "
            "template; use a model that was trained on conversations, or a column of text"
        )
    for index, condition in enumerate(config.filter):
        if condition.column not in sample:
            known = list(sample)
            raise DataError(
                f"dataset.filter[{index}].column: no column {condition.column!r}"
                f"{nearest(condition.column, known)} (columns: {', '.join(known)})"
            )
    settings = {
        "source": opened.source,
        "config": config.config,
        "split": config.split,
        "column": column,
        "filter": [attrs.asdict(condition) for condition in config.filter],
        "chat_template": str(tokenizer.chat_template) if kind == "conversations" else None,
    }
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    needed = list(dict.fromkeys([column, *(condition.column for condition in config.filter)]))
    reader = RowReader(
        rows=opened.rows.select_columns(needed),
        column=column,
        kind=kind,
        config=config,
        tokenizer=tokenizer,
    )
    identity = {**opened.identity, "column": column}
    return (RowStream if config.streaming else RowDocuments)(reader, fingerprint, identity)


@attrs.frozen(kw_only=True)
class RowReader:
    """Turns rows into documents."""

    rows: Any
    column: str
    kind: str | None
    config: HuggingFaceConfig
    tokenizer: Any

    def read(self, rows: Any, number: int) -> Iterator[Document]:
        """Documents of consecutive rows.

        Args:
            rows: the rows.
            number: number of the first one.

        Raises:
            DataError: a row cannot be read, or its value is of another kind than the first ones.
        """
        iterator = iter(rows)
        while True:
            name = f"row {number}"
            with dataset_errors(self.config, f"read at {name}"):
                row = next(iterator, None)
            if row is None:
                return
            keep = all(meets(row, condition, name) for condition in self.config.filter)
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
        messages = [
            {key: value for key, value in turn.items() if value is not None} for turn in turns
        ]
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception as error:  # a template may raise anything
            raise DataError(
                f"dataset: {name}: the tokenizer's chat template rejects the conversation: "
                f"{reason(error)}; repair the row, or filter it out ([[dataset.filter]])"
            ) from error


def meets(row: Mapping[str, Any], condition: FilterConfig, name: str) -> bool:
    """Whether a row meets a condition.

    Raises:
        DataError: min_length is set for a column of neither text nor lists.
    """
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
    """Rows that can be counted, as `Documents`."""

    def __init__(self, reader: RowReader, fingerprint: str, identity: dict[str, Any]) -> None:
        self.reader, self.fingerprint, self.identity = reader, fingerprint, identity

    def __len__(self) -> int:
        return len(self.reader.rows)

    def __iter__(self) -> Iterator[Document]:
        return self.reader.read(self.reader.rows, 0)


class RowStream:
    """Rows read as needed, as a `DocumentStream`."""

    def __init__(self, reader: RowReader, fingerprint: str, identity: dict[str, Any]) -> None:
        self.reader, self.fingerprint, self.identity = reader, fingerprint, identity

    def read_from(self, number: int) -> Iterator[Document]:
        """Documents from this number on; see `DocumentStream.read_from`."""
        rows = self.reader.rows
        return self.reader.read(rows.skip(number) if number else rows, number)
