"""Configuration fields that hold plugins, and validators for other fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs


def choice(kind: str, default: Any = attrs.NOTHING, unlike: str | None = None) -> Any:
    """Declare an attrs field of type `Choice`, which holds a component of a kind.

    Args:
        kind: one of `KINDS`.
        default: a name, or a table such as `{"type": "constant", "warm_up_steps": 100}`.
        unlike: refuse names that also belong to this kind; the message points there.
    """

    def from_registry() -> Any:
        from saecore.plugins.structure import structure_choice

        return structure_choice(kind, default)

    factory = attrs.NOTHING if default is attrs.NOTHING else attrs.Factory(from_registry)
    return attrs.field(
        default=factory, metadata={"choice": kind, "default": default, "unlike": unlike}
    )


def choices(kind: str, default: Sequence[Any] | Callable[[Any], Sequence[Any]] = ()) -> Any:
    """Declare a field of type `tuple[Choice, ...]`: an array of tables of one kind.

    Args:
        kind: one of `KINDS`.
        default: names or tables, or a function that returns them, given an object with the valid
            fields before this one as attributes.
    """

    def from_registry(self: Any) -> Any:
        from saecore.plugins.structure import structure_choice

        listed = default(self) if callable(default) else default
        return tuple(structure_choice(kind, item) for item in listed)

    factory = attrs.Factory(from_registry, takes_self=True)
    return attrs.field(default=factory, metadata={"choices": kind, "default": default})


def inline(kind: str) -> Any:
    """Declare a field whose component shares the table with the other fields.

    The table's tag names the component; keys that are not fields of the table are its settings.
    """
    return attrs.field(metadata={"inline": kind})


Validator = Callable[[Any, Any, Any], None]


def at_least(low: float) -> Validator:
    """Accept numbers ≥ `low`; values that are not numbers pass (None, "auto")."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if isinstance(value, int | float) and value < low:
            raise ValueError(f"expected at least {low:_}, got {value}")

    return check


def above(low: float) -> Validator:
    """Accept numbers > `low`."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if isinstance(value, int | float) and value <= low:
            raise ValueError(f"expected more than {low:_}, got {value}")

    return check


def between(low: float, high: float) -> Validator:
    """Accept numbers with low ≤ x < high, and tuples of them."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not low <= number < high:
                raise ValueError(f"expected a number from {low} to below {high}, got {number}")

    return check


def device(instance: Any, attribute: Any, value: str) -> None:
    """Accept device names."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value) is None:
        raise ValueError(f'expected "auto", "cpu", "mps", "cuda" or "cuda:N", got "{value}"')
