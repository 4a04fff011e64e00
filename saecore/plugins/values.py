"""Strict structuring of plain values: numbers, strings, literals, unions, lists and tables."""

from __future__ import annotations

import math
import re
import types
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin

import cattrs

from saecore.plugins.problems import Mismatch, build_all, show

NUMBERS = {
    int: re.compile(r"[+-]?\d+(_\d+)*"),
    float: re.compile(r"[+-]?\d+(_\d+)*(\.\d+)?([eE][+-]?\d+)?"),
    bool: re.compile("true|false"),
}
"""Strings that would be a value of a type without their quotes."""


def register_values(converter: cattrs.Converter) -> None:
    """Make a converter refuse what cattrs would convert: `"3"` as 3, 1.7 as 1, true as 1."""
    register = converter.register_structure_hook_func
    register(_is_union, lambda value, cls: _union(value, cls, converter))
    register(lambda cls: _origin(cls) is tuple, lambda v, cls: _tuple(v, cls, converter))
    register(lambda cls: _origin(cls) is dict, lambda v, cls: _dict(v, cls, converter))
    register(lambda cls: _origin(cls) is Literal, _literal)
    converter.register_structure_hook(bool, lambda v, _: _primitive(v, bool, "true or false"))
    converter.register_structure_hook(str, lambda v, _: _primitive(v, str, "a string"))
    converter.register_structure_hook(int, lambda v, _: _primitive(v, int, "an integer"))
    converter.register_structure_hook(float, _float)


def _origin(cls: Any) -> Any:  # typed for mypy, which knows fewer results of get_origin
    return get_origin(cls)


def _primitive(value: object, cls: type[Any], expected: str) -> Any:
    if not isinstance(value, cls) or (isinstance(value, bool) and cls is not bool):
        raise Mismatch(expected, value, _remedy(value, cls))
    return value


def _remedy(value: object, cls: type[Any]) -> str:
    """How to write a value of the wrong type, where that is clear."""
    if cls is str and isinstance(value, bool | int | float):
        return f'write "{show(value)}" with quotes'
    if cls is int and isinstance(value, float) and value.is_integer():
        return f"write {int(value):_}"
    pattern = NUMBERS.get(cls)
    if pattern is not None and isinstance(value, str) and pattern.fullmatch(value):
        return f"write {value} without quotes"
    return ""


def _float(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Mismatch("a finite number", value, _remedy(value, float))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Mismatch("a finite number", value)
    return number


def _literal(value: object, cls: Any) -> object:
    allowed = get_args(cls)
    if not any(type(value) is type(literal) and value == literal for literal in allowed):
        raise Mismatch(" or ".join(show(literal) for literal in allowed), value)
    return value


def _is_union(cls: Any) -> bool:
    return get_origin(cls) in (Union, types.UnionType)


def _union(value: object, cls: Any, converter: cattrs.Converter) -> Any:
    if value is None and types.NoneType in get_args(cls):
        return None
    expected, remedies = [], []
    for member in get_args(cls):
        if member is not types.NoneType:
            try:
                return converter.structure(value, member)
            except Mismatch as error:
                expected.append(error.expected)
                remedies.append(error.remedy)
    raise Mismatch(" or ".join(expected), value, next(filter(None, remedies), ""))


def _tuple(value: object, cls: Any, converter: cattrs.Converter) -> tuple[Any, ...]:
    item_types = get_args(cls)
    length = None if item_types[-1] is Ellipsis else len(item_types)
    if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
        single = length is None and isinstance(value, bool | int | float | str)
        remedy = f"write [{show(value)}]" if single else ""
        raise Mismatch("a list" if length is None else f"a list of {length}", value, remedy)
    if length is None:
        item_types = item_types[:1] * len(value)
    return tuple(
        build_all(
            (f"[{i}]", partial(converter.structure, item, item_type))
            for i, (item, item_type) in enumerate(zip(value, item_types, strict=True))
        )
    )


def _dict(value: object, cls: Any, converter: cattrs.Converter) -> dict[str, Any]:
    table, (_, item_type) = _primitive(value, dict, "a table"), get_args(cls)
    if item_type is Any:
        return dict(table)
    items = build_all(
        (key, partial(converter.structure, item, item_type)) for key, item in table.items()
    )
    return dict(zip(table, items, strict=True))
