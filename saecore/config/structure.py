"""Tables to attrs objects, strictly, with every problem reported at once.

One cattrs converter dispatches on types; the hooks here refuse what cattrs would convert
(`"3"` as 3, 1.7 as 1, true as 1) and collect problems by their path.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs

from saecore.components import TAGS, Choice
from saecore.errors import nearest
from saecore.plugins import Host


class Problems(Exception):  # noqa: N818 (a collection, turned into ConfigError by the caller)
    """Every problem found below one value: (path, message) pairs."""

    def __init__(self, items: list[tuple[str, str]]) -> None:
        super().__init__(items)
        self.items = items


class Mismatch(Problems):
    """A value of the wrong type: what was expected, what was got."""

    def __init__(self, expected: str, value: object) -> None:
        self.expected = expected
        super().__init__([("", f"expected {expected}, got {show(value)}")])


def show(value: object) -> str:
    """A value as a TOML reader knows it, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, Mapping):
        text = "a table"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show(one) for one in value) + "]"
    else:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def join(path: str, key: str) -> str:
    """Append a key to a path: `sae` and `k` give `sae.k`; `[0]` needs no dot."""
    return path + key if key.startswith("[") or not path or not key else f"{path}.{key}"


def structure(data: object, cls: type[Any], host: Host) -> Any:
    """Build `cls` from tables.

    Raises:
        Problems: with every problem found.
    """
    return _converter(host).structure(data, cls)


def structure_choice(kind: str, value: object, host: Host) -> Choice:
    """Build a `Choice` from a name or a table with a tag.

    Raises:
        Problems: with every problem found.
    """
    tag = TAGS.get(kind, "type")
    table = {tag: value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise Mismatch(f"the name of a {kind} or a table with {tag}", value)
    return _choice(kind, table, host, structure)


def _choice(kind: str, table: Mapping[str, Any], host: Host, build: Callable[..., Any]) -> Choice:
    tag = TAGS.get(kind, "type")
    names = host.names(kind)
    installed = f"(installed: {', '.join(names) or 'none'})"
    name = table.get(tag)
    if name is None:
        raise Problems([(tag, f"missing; expected the name of a {kind} {installed}")])
    if not isinstance(name, str):
        raise Problems([(tag, f"expected the name of a {kind}, got {show(name)} {installed}")])
    if name not in names:
        message = f'no {kind} named "{name}"{nearest(name, names)} {installed}'
        raise Problems([(tag, message)])
    component = host.component(kind, name)
    settings = {key: value for key, value in table.items() if key != tag}
    return Choice(component, build(settings, component.config, host))


@lru_cache(maxsize=4)  # making one takes longer than all else in loading a small SAE
def _converter(host: Host) -> cattrs.Converter:
    converter = cattrs.Converter()
    register = converter.register_structure_hook_func
    register(attrs.has, lambda value, cls: _attrs(value, cls, host, converter))
    register(_is_union, lambda value, cls: _union(value, cls, converter))
    register(lambda cls: _origin(cls) is tuple, lambda v, cls: _tuple(v, cls, converter))
    register(lambda cls: _origin(cls) is dict, lambda v, cls: _dict(v, cls, converter))
    register(lambda cls: _origin(cls) is Literal, _literal)
    converter.register_structure_hook(bool, lambda v, _: _primitive(v, bool, "true or false"))
    converter.register_structure_hook(str, lambda v, _: _primitive(v, str, "a string"))
    converter.register_structure_hook(int, lambda v, _: _primitive(v, int, "an integer"))
    converter.register_structure_hook(float, _float)
    return converter


def _origin(cls: Any) -> Any:
    return get_origin(cls)


def _primitive(value: object, cls: type[Any], expected: str) -> Any:
    if not isinstance(value, cls) or (isinstance(value, bool) and cls is not bool):
        raise Mismatch(expected, value)
    return value


def _float(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Mismatch("a finite number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Mismatch("a finite number", value)
    return number


def _literal(value: object, cls: Any) -> object:
    allowed = get_args(cls)
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise Mismatch(" or ".join(show(one) for one in allowed), value)
    return value


def _is_union(cls: Any) -> bool:
    return get_origin(cls) in (Union, types.UnionType)


def _union(value: object, cls: Any, converter: cattrs.Converter) -> Any:
    if value is None and types.NoneType in get_args(cls):
        return None
    expected = []
    members = [one for one in get_args(cls) if one is not types.NoneType]
    for member in members:
        try:
            return converter.structure(value, member)
        except Mismatch as error:
            expected.append(error.expected)
    raise Mismatch(" or ".join(expected), value)


def _tuple(value: object, cls: Any, converter: cattrs.Converter) -> tuple[Any, ...]:
    args = get_args(cls)
    length = None if args[-1] is Ellipsis else len(args)
    if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
        raise Mismatch("a list" if length is None else f"a list of {length}", value)
    result, problems = [], []
    for i, one in enumerate(value):
        try:
            result.append(converter.structure(one, args[0] if length is None else args[i]))
        except Problems as error:
            problems += [(join(f"[{i}]", path), message) for path, message in error.items]
    if problems:
        raise Problems(problems)
    return tuple(result)


def _dict(value: object, cls: Any, converter: cattrs.Converter) -> dict[str, Any]:
    table, (_, kind) = _primitive(value, dict, "a table"), get_args(cls)
    result, problems = {}, []
    for key, one in table.items():
        try:
            result[key] = one if kind is Any else converter.structure(one, kind)
        except Problems as error:
            problems += [(join(key, path), message) for path, message in error.items]
    if problems:
        raise Problems(problems)
    return result


def _attrs(value: object, cls: type[Any], host: Host, converter: cattrs.Converter) -> Any:
    """Structure one attrs class: its fields, choices, the inline component, unknown keys."""
    if not isinstance(value, Mapping):
        raise Mismatch("a table", value)
    fields = attrs.fields_dict(cls)
    hints = get_type_hints(cls)
    inlined = next((name for name, one in fields.items() if "inline" in one.metadata), None)
    found: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []

    def attempt(name: str, path: str, make: Callable[[], Any]) -> None:
        try:
            found[name] = make()
        except Problems as error:
            problems.extend((join(path, key), message) for key, message in error.items)

    for name, field in fields.items():
        if name == inlined:
            continue
        if name not in value:
            if "choice" in field.metadata and field.metadata["default"] is not attrs.NOTHING:
                kind, default = field.metadata["choice"], field.metadata["default"]
                attempt(name, name, lambda k=kind, d=default: structure_choice(k, d, host))  # type: ignore[misc]
            elif "choices" in field.metadata:
                kind, default = field.metadata["choices"], field.metadata["default"]
                listed = default(types.SimpleNamespace(**found)) if callable(default) else default
                attempt(name, name, lambda k=kind, d=list(listed): _choices(k, d, host))  # type: ignore[misc]
            elif field.default is attrs.NOTHING:
                problems.append((name, "missing; it has no default"))
            continue
        raw = value[name]
        if "choice" in field.metadata:
            kind, unlike = field.metadata["choice"], field.metadata["unlike"]
            elsewhere = raw.get(TAGS.get(kind, "type")) if isinstance(raw, Mapping) else raw
            if unlike is not None and elsewhere in host.names(unlike):
                use = f'{TAGS.get(unlike, "type")} = "{elsewhere}"'
                problems.append((name, f'"{elsewhere}" is an {unlike} of its own; use {use}'))
                continue
            attempt(name, name, lambda k=kind, v=raw: structure_choice(k, v, host))  # type: ignore[misc]
        elif "choices" in field.metadata:
            kind = field.metadata["choices"]
            attempt(name, name, lambda k=kind, v=raw: _choices(k, v, host))  # type: ignore[misc]
        else:
            hint = hints[name]
            attempt(name, name, lambda h=hint, v=raw: converter.structure(v, h))  # type: ignore[misc]
        if name in found and field.validator is not None:
            try:
                field.validator(None, field, found[name])
            except ValueError as error:
                problems.append((name, str(error)))
    rest = {key: one for key, one in value.items() if key not in fields or key == inlined}
    if inlined is not None:
        kind = fields[inlined].metadata["inline"]
        own = set(fields) - {inlined}

        def build(settings: Mapping[str, Any], config: type[Any], _: Host) -> Any:
            return _with_known(settings, config, own | {TAGS.get(kind, "type")}, host)

        attempt(inlined, "", lambda: _choice(kind, rest, host, build))
    else:
        problems += _unknown(rest, list(fields))
    if problems:
        raise Problems(problems)
    result = cls(**found)
    if hasattr(result, "problems"):
        problems = list(result.problems())
        if problems:
            raise Problems(problems)
    return result


def _choices(kind: str, value: object, host: Host) -> tuple[Choice, ...]:
    if not isinstance(value, list):
        raise Mismatch(f"a list of tables ([[{kind}]])", value)
    result, problems = [], []
    for i, one in enumerate(value):
        try:
            result.append(structure_choice(kind, one, host))
        except Problems as error:
            problems += [(join(f"[{i}]", path), message) for path, message in error.items]
    if problems:
        raise Problems(problems)
    return tuple(result)


def _with_known(
    settings: Mapping[str, Any], config: type[Any], table_keys: set[str], host: Host
) -> Any:
    """Structure a component's keys; unknown ones are reported against the whole table's keys."""
    known = set(attrs.fields_dict(config))
    problems = _unknown({k: v for k, v in settings.items() if k not in known}, known | table_keys)
    try:
        result = structure({k: v for k, v in settings.items() if k in known}, config, host)
    except Problems as error:
        raise Problems(problems + error.items) from None
    if problems:
        raise Problems(problems)
    return result


def _unknown(rest: Mapping[str, Any], known: Any) -> list[tuple[str, str]]:
    names = sorted(known)
    return [
        (key, f"unknown key{nearest(key, names)} (known: {', '.join(names) or 'none'})")
        for key in rest
    ]
