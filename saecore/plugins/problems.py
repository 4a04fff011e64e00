"""Problems found while structuring settings, each with the path of its key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Problems(Exception):  # noqa: N818 (a collection, turned into ConfigError by the caller)
    """All problems found in one value, as (path, message) pairs."""

    def __init__(self, items: list[tuple[str, str]]) -> None:
        super().__init__(items)
        self.items = items


class Mismatch(Problems):
    """A value of the wrong type: what was expected, what was got."""

    def __init__(self, expected: str, value: object) -> None:
        self.expected = expected
        super().__init__([("", f"expected {expected}, got {show(value)}")])


def show(value: object) -> str:
    """Format a value as TOML does, shortened to 60 characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, Mapping):
        text = "a table"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show(item) for item in value) + "]"
    else:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def join(path: str, key: str) -> str:
    """Append a key to a path: `sae` and `k` give `sae.k`; `[0]` needs no dot."""
    return path + key if key.startswith("[") or not path or not key else f"{path}.{key}"


def build_all(parts: Iterable[tuple[str, Callable[[], Any]]]) -> list[Any]:
    """Build every part, given as (path, function).

    Raises:
        Problems: those of all parts, each under the part's path.
    """
    results, problems = [], []
    for path, build in parts:
        try:
            results.append(build())
        except Problems as error:
            problems += [(join(path, key), message) for key, message in error.items]
    if problems:
        raise Problems(problems)
    return results
