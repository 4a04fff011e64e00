"""Strip private paths and settings before publishing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PRIVATE = ("logger", "output")
"""Tables of an experiment that are not published: where it was logged and stored."""


def without_private(record: Mapping[str, Any]) -> Any:
    """The record of a run without `PRIVATE`, with shortened paths."""
    tables = record.get("experiment")
    if not isinstance(tables, Mapping):
        return shareable(dict(record))
    public = {key: table for key, table in tables.items() if key not in PRIVATE}
    return shareable({**record, "experiment": public})


def shareable(value: Any) -> Any:
    """A JSON value with absolute paths shortened to their last part."""
    if isinstance(value, Mapping):
        return {key: shareable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(item) for item in value]
    if isinstance(value, str) and re.match(r"[/~]|[A-Za-z]:[/\\]|\\\\", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value
