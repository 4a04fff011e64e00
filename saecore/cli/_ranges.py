"""Numbers and ranges as option values: `12`, `10-14`, `16k-65k`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

ROUNDED = {"65k": 2**16, "131k": 2**17, "262k": 2**18, "524k": 2**19, "1m": 2**20}
"""Widths that the field calls by a rounded name; any other k is 1024."""


Bounds = tuple[float, float]
"""Lowest and highest value, both included."""


def numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> Bounds | None:
    """Option callback: the bounds of `A` or `A-B`."""
    return _bounds(value, "", "12 or 10-14")


def widths(ctx: click.Context, param: click.Parameter, value: str | None) -> Bounds | None:
    """Option callback: the bounds of `A` or `A-B`, where numbers may end in k or m."""
    return _bounds(value, "[km]?", "16k or 16k-65k")


def _bounds(value: str | None, unit: str, example: str) -> Bounds | None:
    if value is None:
        return None
    number = rf"(\d+(?:\.\d+)?{unit})"
    match = re.fullmatch(rf"{number}(?:-{number})?", value.lower())
    if match is None:
        raise click.BadParameter(f"{value!r}: expected a number or a range, such as {example}")
    return _number(match[1]), _number(match[2] or match[1])


def _number(text: str) -> float:
    if text in ROUNDED:
        return ROUNDED[text]
    factor = {"k": 2**10, "m": 2**20}.get(text[-1], 1)
    return float(text.rstrip("km")) * factor


def short(numbers: Sequence[float], in_k: bool = False) -> str:
    """The range of sorted numbers: `0-25`, `4k-1m`."""
    if not numbers:
        return ""
    ends = [_width(end) if in_k else f"{end:g}" for end in (numbers[0], numbers[-1])]
    return ends[0] if len(numbers) == 1 else f"{ends[0]}-{ends[1]}"


def _width(number: float) -> str:
    named = {value: key for key, value in ROUNDED.items()}
    if number in named:
        return named[int(number)]
    return f"{number / 1024:g}k" if number % 1024 == 0 else f"{number:g}"
