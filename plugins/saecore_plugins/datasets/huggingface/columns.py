"""Choosing the column of text and recognizing its kind."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from saecore.errors import DataError, nearest
from saecore_plugins.datasets.huggingface.config import HuggingFaceConfig
from saecore_plugins.datasets.huggingface.opening import no_rows

TEXT = ("tokens", "input_ids", "text", "content", "problem")
CONVERSATIONS = ("conversation", "conversations", "messages")
SAMPLE = 100
"""Rows read to find out what a column holds."""


def kind_of(value: Any) -> str | None:
    """The kind of a value: "text", "tokens", "conversations", or None for anything else."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, list) and value:
        if all(isinstance(item, int) and not isinstance(item, bool) for item in value):
            return "tokens"
        if all(isinstance(item, Mapping) and {"role", "content"} <= set(item) for item in value):
            return "conversations"
    return None


def sample_values(rows: Any, config: HuggingFaceConfig) -> dict[str, Any]:
    """The first value of every column that is neither null nor an empty list, if any.

    Raises:
        DataError: there are no rows.
    """
    sample: dict[str, Any] = {}
    for row in islice(iter(rows), SAMPLE):
        for name, value in row.items():
            if sample.get(name) in (None, []):
                sample[name] = value
        if not any(value in (None, []) for value in sample.values()):
            break
    if not sample:
        raise no_rows(config)
    return sample


def chosen_column(sample: Mapping[str, Any], config: HuggingFaceConfig) -> str:
    """The configured column, or the first usable one with a usual name.

    Raises:
        DataError: there is no such column, or no usable one.
    """
    columns = f"(columns: {', '.join(sample)})"
    if config.column is None:
        names = (*TEXT, *CONVERSATIONS)
        column = next((name for name in names if kind_of(sample.get(name))), None)
        if column is None:
            raise DataError(
                f"dataset.column: {config.name} has no column of text, tokens or conversations "
                f"with a usual name; set dataset.column {columns}"
            )
        return column
    if config.column not in sample:
        raise DataError(
            f"dataset.column: {config.name} has no column {config.column!r}"
            f"{nearest(config.column, list(sample))} {columns}"
        )
    if kind_of(sample[config.column]) is None:
        raise DataError(
            f"dataset.column: {config.column} of {config.name} holds "
            f"{shortened(sample[config.column])}; expected text, lists of token ids, or lists of "
            f"turns with role and content {columns}"
        )
    return config.column


def shortened(value: Any) -> str:
    """A value, shortened for an error message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
