"""What of a machine's own records is for everybody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PRIVATE = ("logger", "output")
"""Tables of an experiment that are nobody else's business: where it was logged and kept."""


def without_private(record: Mapping[str, Any]) -> Any:
    """The record of a run without `PRIVATE`, paths cut."""
    tables = record.get("experiment")
    if not isinstance(tables, Mapping):
        return shareable(dict(record))
    kept = {key: one for key, one in tables.items() if key not in PRIVATE}
    return shareable({**record, "experiment": kept})


def shareable(value: Any) -> Any:
    """A value of JSON in which paths of this machine are cut to their last part."""
    if isinstance(value, Mapping):
        return {key: shareable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(one) for one in value]
    if isinstance(value, str) and re.match(r"[/~]|[A-Za-z]:[/\\]|\\\\", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value
