"""Format problems, and convert configurations to tables with the origin of each value."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from saecore.config.layers import Layers
from saecore.errors import ConfigError
from saecore.plugins.component import Choice
from saecore.plugins.hookspecs import TAGS

PAIRS = {"[": "]", "{": "}"}
"""What ends a list and a table."""


def config_error(layers: Layers, problems: list[tuple[str, str]]) -> ConfigError:
    """Turn (path, message) pairs into one error; a value from another layer names that layer."""
    lines = []
    for path, message in problems:
        origin = origin_of(layers, path)
        value = value_at(layers, path)
        if origin == "--set" and isinstance(value, str) and value.startswith(("[", "{")):
            message += f"; quote it for the shell: --set '{path}={value[0]}…{PAIRS[value[0]]}'"
        suffix = f" [{origin}]" if origin not in (layers.label, "default") else ""
        lines.append(f"{path}: {message}{suffix}")
    return ConfigError(lines, label=layers.label)


def origin_of(layers: Layers, path: str) -> str:
    """Return where the value at `path` was set: a file, `--set`, or `default`."""
    if path in layers.origins:
        return layers.origins[path]
    parent, _, last = path.rpartition(".")
    if last in ("type", *TAGS.values()) and isinstance(value_at(layers, parent), str):
        return layers.origins.get(parent, "default")  # the short form of a component
    return "default"


def value_at(layers: Layers, path: str) -> Any:
    """Return the value at a path such as `logger[0].type`, or None."""
    value: Any = layers.tables
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if index:
            value = value[int(index)] if isinstance(value, list) else None
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value


def to_tables(config: Any) -> dict[str, Any]:
    """Convert an attrs config to tables for TOML, without values that are None."""
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
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def chosen(config: Any) -> Iterator[Choice]:
    """Yield every component that a config chooses, at any depth."""
    if isinstance(config, Choice):
        yield config
        yield from chosen(config.config)
    elif isinstance(config, tuple):
        for item in config:
            yield from chosen(item)
    elif attrs.has(type(config)):
        for field in attrs.fields(type(config)):
            yield from chosen(getattr(config, field.name))


def flatten(tables: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested tables as (dotted path, value); arrays of tables by index."""
    for key, value in tables.items():
        full_path = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from flatten(value, full_path)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for i, item in enumerate(value):
                yield from flatten(item, f"{full_path}[{i}]")
        else:
            yield full_path, value


def annotated(config: Any, layers: Layers) -> str:
    """Format the resolved experiment as TOML, with the origin of each value as a comment."""
    import tomli_w

    tables = to_tables(config)
    lines: list[str] = []

    def emit(table: Mapping[str, Any], path: str, header: str | None, dotted: str = "") -> None:
        if header:
            lines.append(f"\n{header}")
        inner = []
        for key, value in table.items():
            full_path = f"{path}.{key}" if path else key
            if value == {}:
                continue
            nested = isinstance(value, Mapping)
            if nested or (isinstance(value, list) and value and isinstance(value[0], Mapping)):
                inner.append((key, value, full_path))
                continue
            line = tomli_w.dumps({key: value}).replace("\n    ", " ").replace(",\n]", "]")
            line = " ".join(line.split("\n")).strip()
            lines.append(f"{line:<56} # {origin_of(layers, full_path)}")
        for key, value, full_path in inner:
            quoted = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
            name = f"{dotted}.{quoted}" if dotted else quoted
            if isinstance(value, Mapping):
                emit(value, full_path, f"[{name}]", name)
            else:
                for i, item in enumerate(value):
                    emit(item, f"{full_path}[{i}]", f"[[{name}]]", name)

    emit(tables, "", None)
    return "\n".join(lines) + "\n"


def field_docs(cls: type[Any]) -> dict[str, str]:
    """Read the docstring under each field of an attrs class and its bases, joined to one line."""
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
