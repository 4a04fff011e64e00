"""Problems as lines for people, and configurations as tables with the origin of each value."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from saecore.components import TAGS, Choice
from saecore.config.layers import Layers
from saecore.errors import ConfigError


def config_error(layers: Layers, problems: list[tuple[str, str]]) -> ConfigError:
    """Turn (path, message) pairs into one error; a value from another layer names it."""
    lines = []
    for path, message in problems:
        origin = origin_of(layers, path)
        suffix = f" [{origin}]" if origin not in (layers.source, "default") else ""
        lines.append(f"{path}: {message}{suffix}")
    return ConfigError(layers.source, lines)


def origin_of(layers: Layers, path: str) -> str:
    """Where the value at `path` was set: a file, `--set`, or `default`."""
    if path in layers.origins:
        return layers.origins[path]
    parent, _, last = path.rpartition(".")
    if last in ("type", *TAGS.values()) and isinstance(value_at(layers, parent), str):
        return layers.origins.get(parent, "default")  # the short spelling of a component
    return "default"


def value_at(layers: Layers, path: str) -> Any:
    """What the layers hold at a path such as `logger[0].type`, or None."""
    found: Any = layers.tables
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if index:
            found = found[int(index)] if isinstance(found, list) else None
        else:
            found = found.get(key) if isinstance(found, Mapping) else None
    return found


def to_tables(config: Any) -> dict[str, Any]:
    """An attrs config as TOML-ready tables; values that are None are left out."""
    tables: dict[str, Any] = {}
    for field in attrs.fields(type(config)):
        value = getattr(config, field.name)
        if "inline" in field.metadata:
            tables = {**_choice_table(value), **tables}
        elif value is not None:
            tables[field.name] = _plain(value)
    return tables


def _choice_table(value: Choice) -> dict[str, Any]:
    return {TAGS.get(value.kind, "type"): value.name, **to_tables(value.config)}


def _plain(value: Any) -> Any:
    if isinstance(value, Choice):
        return _choice_table(value)
    if attrs.has(type(value)):
        return to_tables(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return value


def chosen(config: Any) -> Iterator[Choice]:
    """Every component that a config chooses, at any depth."""
    if isinstance(config, Choice):
        yield config
        yield from chosen(config.config)
    elif isinstance(config, tuple):
        for one in config:
            yield from chosen(one)
    elif attrs.has(type(config)):
        for field in attrs.fields(type(config)):
            yield from chosen(getattr(config, field.name))


def flatten(tables: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested tables as (dotted path, value); arrays of tables by index."""
    for key, value in tables.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from flatten(value, here)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for i, one in enumerate(value):
                yield from flatten(one, f"{here}[{i}]")
        else:
            yield here, value


def annotated(config: Any, layers: Layers) -> str:
    """The resolved experiment as TOML, each value with its origin as a comment."""
    import tomli_w

    tables = to_tables(config)
    lines: list[str] = []

    def emit(table: Mapping[str, Any], path: str, header: str | None, dotted: str = "") -> None:
        if header:
            lines.append(f"\n{header}")
        inner = []
        for key, value in table.items():
            here = f"{path}.{key}" if path else key
            if value == {}:
                continue
            nested = isinstance(value, Mapping)
            if nested or (isinstance(value, list) and value and isinstance(value[0], Mapping)):
                inner.append((key, value, here))
                continue
            one_line = tomli_w.dumps({key: value}).replace("\n    ", " ").replace(",\n]", "]")
            one_line = " ".join(one_line.split("\n")).strip()
            lines.append(f"{one_line:<56} # {origin_of(layers, here)}")
        for key, value, here in inner:
            quoted = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
            name = f"{dotted}.{quoted}" if dotted else quoted
            if isinstance(value, Mapping):
                emit(value, here, f"[{name}]", name)
            else:
                for i, one in enumerate(value):
                    emit(one, f"{here}[{i}]", f"[[{name}]]", name)

    emit(tables, "", None)
    return "\n".join(lines) + "\n"


def field_docs(cls: type[Any]) -> dict[str, str]:
    """The docstring under each field of an attrs class, base classes included, on one line."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not attrs.has(base):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue
        definition = tree.body[0]
        if not isinstance(definition, ast.ClassDef):
            continue
        for field, after in zip(definition.body, definition.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                docs[field.target.id] = " ".join(after.value.value.split())
    return docs
