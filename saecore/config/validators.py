"""Range checks for config fields. Each raises ValueError with `expected …, got …`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Validator = Callable[[Any, Any, Any], None]


def at_least(low: float) -> Validator:
    """Accept numbers ≥ `low`; anything that is not a number passes (None, "auto")."""

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
    """Accept numbers with low ≤ x < high, also when they stand in a tuple."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int | float) and not low <= one < high:
                raise ValueError(f"expected a number from {low} to below {high}, got {one}")

    return check


def device(instance: Any, attribute: Any, value: str) -> None:
    """Accept the names of devices."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value) is None:
        raise ValueError(f'expected "auto", "cpu", "mps", "cuda" or "cuda:N", got "{value}"')
