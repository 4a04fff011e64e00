"""Turn tables into attrs objects, strictly, and report every problem at once."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, get_type_hints

import attrs
import cattrs

from saecore.errors import PluginError, nearest
from saecore.plugins.component import Choice
from saecore.plugins.hookspecs import TAGS
from saecore.plugins.host import current_host
from saecore.plugins.problems import Mismatch, Problems, UnknownKey, a, build_all, join, show
from saecore.plugins.values import register_values


def structure(data: object, cls: type[Any]) -> Any:
    """Build `cls` from tables.

    Raises:
        Problems: all problems found.
    """
    return _converter().structure(data, cls)


def structure_choice(kind: str, value: object) -> Choice:
    """Build a `Choice` from a name or from a table that contains the name.

    Raises:
        Problems: all problems found.
    """
    tag = TAGS.get(kind, "type")
    table = {tag: value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise Mismatch(f"the name of {a(kind)} or a table with {tag}", value)
    return _choice(kind, table, structure)


def _choice(kind: str, table: Mapping[str, Any], build: Callable[..., Any]) -> Choice:
    tag = TAGS.get(kind, "type")
    names = current_host().names(kind)
    installed = f"(installed: {', '.join(names) or 'none'})"
    name = table.get(tag)
    if name is None:
        raise Problems([(tag, f"missing; expected the name of {a(kind)} {installed}")])
    if not isinstance(name, str):
        raise Problems([(tag, f"expected the name of {a(kind)}, got {show(name)} {installed}")])
    if name not in names:
        message = f'no {kind} named "{name}"{nearest(name, names)} {installed}'
        raise Problems([(tag, message)])
    component = current_host().component(kind, name)
    settings = {key: value for key, value in table.items() if key != tag}
    try:
        return Choice(component, build(settings, component.config))
    except Problems as error:
        raise _name_others(kind, name, error) from None


def _choices(kind: str, value: object) -> tuple[Choice, ...]:
    if not isinstance(value, list):
        raise Mismatch(f"a list of tables ([[{kind}]])", value)
    return tuple(
        build_all((f"[{i}]", partial(structure_choice, kind, item)) for i, item in enumerate(value))
    )


@lru_cache(maxsize=1)  # building one takes longer than the rest of loading a small SAE
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_structure_hook_func(
        attrs.has, lambda value, cls: _attrs(value, cls, converter)
    )
    register_values(converter)
    return converter


def _attrs(table: object, cls: type[Any], converter: cattrs.Converter) -> Any:
    """Structure one attrs class: its fields, its inline component, unknown keys."""
    if not isinstance(table, Mapping):
        raise Mismatch("a table", table)
    fields, hints = attrs.fields_dict(cls), get_type_hints(cls)
    inlined = next((name for name, field in fields.items() if "inline" in field.metadata), None)
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []

    def attempt(name: str, path: str, build: Callable[[], Any]) -> None:
        try:
            values[name] = build()
        except Problems as error:
            problems.extend((join(path, key), message) for key, message in error.items)

    for name, field in fields.items():
        if name in table and name != inlined:
            attempt(name, name, partial(_field, field, table[name], hints[name], converter, fields))
        elif name != inlined:
            attempt(name, name, partial(_missing, field, values))
    rest = {key: value for key, value in table.items() if key not in fields or key == inlined}
    if inlined is None:
        problems += _unknown(rest, fields)
    else:
        attempt(inlined, "", partial(_inline, fields[inlined].metadata["inline"], rest, fields))
    if problems:
        raise Problems(problems)
    result = cls(**{name: value for name, value in values.items() if value is not attrs.NOTHING})
    problems += result.problems() if hasattr(result, "problems") else ()
    if problems:
        raise Problems(problems)
    return result


def _field(
    field: Any,
    value: object,
    hint: Any,
    converter: cattrs.Converter,
    fields: Mapping[str, Any],
) -> Any:
    """Structure and validate the value of one of the fields of a table."""
    result: Any
    if "choice" in field.metadata:
        _refuse_other_kind(field.metadata["choice"], field.metadata["unlike"], value)
        result = structure_choice(field.metadata["choice"], value)
    elif "choices" in field.metadata:
        result = _choices(field.metadata["choices"], value)
    else:
        try:
            result = converter.structure(value, hint)
        except Mismatch as error:
            raise _one_or_several(error, field.name, value, fields) from None
    if field.validator is not None:
        try:
            field.validator(None, field, result)
        except ValueError as error:
            raise Problems([("", str(error))]) from None
    return result


def _one_or_several(
    error: Mismatch, name: str, value: object, fields: Mapping[str, Any]
) -> Mismatch:
    """Name the other key of a pair such as hook and hooks, if the value fits that one."""
    single, several = name.removesuffix("s"), f"{name}s"
    if isinstance(value, str) and single != name and single in fields:
        shown = show(value)
        return Mismatch(error.expected, value, f"write {single} = {shown} or {name} = [{shown}]")
    if isinstance(value, list) and several in fields:
        return Mismatch(error.expected, value, f"write {several} = {show(value)}")
    return error


def _missing(field: Any, values: Mapping[str, Any]) -> Any:
    """The value of a field that the table lacks; NOTHING leaves it to the class."""
    if "choices" in field.metadata:
        default = field.metadata["default"]
        present = {name: value for name, value in values.items() if value is not attrs.NOTHING}
        listed = default(types.SimpleNamespace(**present)) if callable(default) else default
        return _choices(field.metadata["choices"], list(listed))
    if "choice" in field.metadata and field.metadata["default"] is not attrs.NOTHING:
        return structure_choice(field.metadata["choice"], field.metadata["default"])
    if field.default is attrs.NOTHING:
        raise Problems([("", "missing; it has no default")])
    return attrs.NOTHING


def _refuse_other_kind(kind: str, unlike: str | None, value: object) -> None:
    """Refuse a name that also belongs to the kind `unlike`, and say how to use that."""
    name = value.get(TAGS.get(kind, "type")) if isinstance(value, Mapping) else value
    if unlike is not None and name in current_host().names(unlike):
        use = f'{TAGS.get(unlike, "type")} = "{name}"'
        raise Problems([("", f'"{name}" is also {a(unlike)}; use {use}')])


def _inline(kind: str, table: Mapping[str, Any], fields: Mapping[str, Any]) -> Choice:
    """Structure a component whose keys share the table with `fields`."""
    table_keys = {name for name, field in fields.items() if "inline" not in field.metadata}

    def build(settings: Mapping[str, Any], config: type[Any]) -> Any:
        known = set(attrs.fields_dict(config))
        unknown = {key: value for key, value in settings.items() if key not in known}
        problems = _unknown(unknown, known | table_keys | {TAGS.get(kind, "type")})
        try:
            result = structure({key: settings[key] for key in settings if key in known}, config)
        except Problems as error:
            problems += error.items
        if problems:
            raise Problems(problems)
        return result

    return _choice(kind, table, build)


def _unknown(keys: Iterable[str], known: Iterable[str]) -> list[tuple[str, str]]:
    names = list(known)
    return [(key, UnknownKey(key, names)) for key in keys]


def _name_others(kind: str, name: str, error: Problems) -> Problems:
    """Name the components of a kind that have the keys which the chosen one lacks."""
    items = []
    for key, message in error.items:
        others = _with_setting(kind, key) if isinstance(message, UnknownKey) else []
        if others and isinstance(message, UnknownKey):
            listed = " or ".join(f'"{other}"' for other in others[:3])
            hint = f"{name} has no {key}; {TAGS.get(kind, 'type')} = {listed} has"
            message = UnknownKey(key, message.known, hint)
        items.append((key, message))
    return Problems(items)


def _with_setting(kind: str, key: str) -> list[str]:
    """The components of a kind that have a setting of this name."""
    names = []
    for name in current_host().names(kind):
        with contextlib.suppress(PluginError):  # another plugin that is broken is not the problem
            if key in attrs.fields_dict(current_host().component(kind, name).config):
                names.append(name)
    return names
