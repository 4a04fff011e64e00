"""Suggest what an unknown key of an experiment was meant to be: the table that has it."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from saecore.config.experiment import Experiment
from saecore.config.layers import Layers
from saecore.errors import PluginError, nearest
from saecore.plugins.hookspecs import TAGS
from saecore.plugins.host import current_host
from saecore.plugins.problems import UnknownKey

FILE_KEYS = ("extends", "seeds", "sweep")
"""Keys at the top of a file that are not settings of one experiment."""


def unknown_at_top(layers: Layers, key: str) -> UnknownKey:
    """The message about an unknown key at the top of an experiment file."""
    known = (*attrs.fields_dict(Experiment), *FILE_KEYS)
    hint = _elsewhere(layers, key) or nearest(key, known).removeprefix("; ")
    value = layers.tables[key]
    if isinstance(value, Mapping):
        hint = re.sub('"(.*)"', r"[\1]", hint)
    elif isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        hint = re.sub('"(.*)"', r"[[\1]]", hint)
    return UnknownKey(key, known, hint)


def with_place(layers: Layers, path: str, message: str) -> str:
    """Add the table that has a key to the message that another table lacks it."""
    if not isinstance(message, UnknownKey) or message.hint:
        return message
    key = path.rpartition(".")[2]
    return UnknownKey(key, message.known, _elsewhere(layers, key))


def _elsewhere(layers: Layers, key: str) -> str:
    paths = sorted(_paths(Experiment, layers.tables, key, ""), key=lambda path: path.count("."))
    listed = " or ".join(f'"{path}"' for path in paths[:3])
    return f"did you mean {listed}?" if paths else ""


def _paths(cls: type[Any], table: object, key: str, path: str) -> Iterator[str]:
    """Yield the dotted path of every setting of this name, for the components that are chosen."""
    values = table if isinstance(table, Mapping) else {}
    hints = get_type_hints(cls)
    for field in attrs.fields(cls):
        inner = f"{path}{field.name}"
        if "inline" in field.metadata:
            yield from _settings(field.metadata["inline"], table, key, path)
            continue
        if field.name == key:
            yield inner
        if "choice" in field.metadata:
            value = values.get(field.name, field.metadata["default"])
            yield from _settings(field.metadata["choice"], value, key, f"{inner}.")
        elif (nested := _table_class(hints[field.name])) is not None:
            yield from _paths(nested, values.get(field.name), key, f"{inner}.")


def _settings(kind: str, value: object, key: str, path: str) -> Iterator[str]:
    """Yield the paths below a component, given as its name or its table."""
    name = value.get(TAGS.get(kind, "type")) if isinstance(value, Mapping) else value
    if isinstance(name, str):
        try:
            config = current_host().component(kind, name).config
        except PluginError:
            return  # reported by the table that names it
        yield from _paths(config, value, key, path)


def _table_class(hint: Any) -> type[Any] | None:
    """The attrs class of a field that holds a table, possibly an optional one."""
    union = get_origin(hint) in (Union, types.UnionType)
    members = get_args(hint) if union else (hint,)
    return next((member for member in members if attrs.has(member)), None)
