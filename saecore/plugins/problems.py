"""Problems found while structuring settings, each with the path of its key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from saecore.errors import nearest

UNSET: tuple[Any, ...] = (None, (), 0)
"""Values of a setting that means nothing by default."""


class Problems(Exception):  # noqa: N818 (a collection, turned into ConfigError by the caller)
    """All problems found in one value, as (path, message) pairs."""

    def __init__(self, items: list[tuple[str, str]]) -> None:
        super().__init__(items)
        self.items = items


class Mismatch(Problems):
    """A value of the wrong type: what was expected, what was got, what to write instead."""

    def __init__(self, expected: str, value: object, remedy: str = "") -> None:
        self.expected, self.remedy = expected, remedy
        end = f"; {remedy}" if remedy else ""
        super().__init__([("", f"expected {expected}, got {show(value)}{end}")])


class UnknownKey(str):
    """The message about a key that its table does not have.

    Args:
        key: the key.
        known: the keys of the table.
        hint: what to write instead, after `unknown key; `; default: a known key like it.
    """

    known: tuple[str, ...]
    hint: str

    def __new__(cls, key: str, known: Iterable[str], hint: str = "") -> UnknownKey:
        """Build the message."""
        names = tuple(sorted(known))
        advice = f"; {hint}" if hint else nearest(key, names)
        message = super().__new__(cls, f"unknown key{advice} (known: {', '.join(names) or 'none'})")
        message.known, message.hint = names, hint
        return message


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


def a(noun: str) -> str:
    """A noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def exactly_one(table: Any, first: str, second: str) -> Iterator[tuple[str, str]]:
    """Report a pair of settings of which not exactly one is set, for the `problems` of a table.

    Args:
        table: an attrs object.
        first: a field; None, 0 and () mean that it is not set.
        second: the field that replaces it.
    """
    values = {key: getattr(table, key) for key in (first, second)}
    present = [f"{key} = {show(value)}" for key, value in values.items() if value not in UNSET]
    if len(present) != 1:
        got = f"both: {', '.join(present)}" if present else "neither"
        yield first, f"expected exactly one of {first} and {second}, got {got}"
