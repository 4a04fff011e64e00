"""Layers of an experiment file: the file, what it extends, `--set`; the origin of each value."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import tomli

from saecore.config.toml_errors import explain
from saecore.errors import ConfigError, labeled_errors
from saecore.plugins.hookspecs import TAGS

Table = dict[str, Any]
_TAG_KEYS = ("type", *TAGS.values())


@attrs.define
class Layers:
    """The merged tables of an experiment file and the origin of every value."""

    label: str
    """The file, for error messages."""
    tables: Table = attrs.field(factory=dict)
    """The merged tables."""
    origins: dict[str, str] = attrs.field(factory=dict)
    """The file that set a value, or `--set`, by dotted path as in error messages."""


def read_layers(file: Path, settings: Sequence[str] = ()) -> Layers:
    """Read a TOML file (or the experiment.json of a run), the files it extends, and `--set` values.

    Args:
        file: the file.
        settings: `key=value` strings, which override the file.

    Raises:
        ConfigError: a file is missing, is not TOML or extends itself, or a setting is malformed.
    """
    layers = Layers(str(file))
    with labeled_errors(layers.label):
        _add_file(layers, file, ())
        for setting in settings:
            add_setting(layers, setting)
    return layers


def copy_of(layers: Layers) -> Layers:
    """Return an independent copy."""
    return Layers(layers.label, copy.deepcopy(layers.tables), dict(layers.origins))


def _add_file(layers: Layers, file: Path, above: tuple[Path, ...]) -> None:
    """Add the files that a file extends, then the file itself."""
    if file.resolve() in above:
        chain = " -> ".join(str(path.name) for path in (*above, file))
        raise ConfigError([f"extends: a file extends itself: {chain}"])
    tables = _read(file, "" if not above else f"{file.name}: ")
    extends = tables.pop("extends", [])
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(["extends: expected a file name or a list of them"])
    for name in names:
        _add_file(layers, file.parent / name, (*above, file.resolve()))
    merge(layers, tables, layers.label if not above else file.name)


def _read(file: Path, name: str) -> Table:
    """Read the tables of a file.

    Args:
        file: the file.
        name: what its problems begin with; "" for the file that labels the error.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        missing = f"{file}: no such file" if name else "no such file"
        raise ConfigError([f"{missing} (`saecore init` writes example experiments)"]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError([f"{name}cannot be read: {reason}"]) from None
    try:
        return _from_run(text) if file.suffix == ".json" else tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError([f"{name}{explain(text, error)}"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{name}cannot be parsed: {error}"]) from None


def _from_run(text: str) -> Table:
    """Parse a run's experiment.json."""
    import json

    record = json.loads(text)
    if not isinstance(record, dict) or not isinstance(record.get("experiment"), dict):
        raise ValueError("not the experiment.json of a run (no table `experiment`)")
    return dict(record["experiment"])


def add_setting(layers: Layers, setting: str) -> None:
    """Override one value by a `key=value` string; a value that is not TOML is a string.

    Raises:
        ConfigError: the string is malformed.
    """
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(
            [f"--set {setting}: expected key=value, such as sae.k=64"], label=layers.label
        )
    try:
        parsed = tomli.loads(f"value = {text}")
        value = parsed["value"] if len(parsed) == 1 else text
    except (ValueError, RecursionError):
        value = text  # a bare word is a string
    add_value(layers, key, value)


def add_value(layers: Layers, key: str, value: Any) -> None:
    """Override the value of a dotted key."""
    nested: Table = {}
    inner = nested
    *parents, last = key.split(".")
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    merge(layers, nested, "--set")


def merge(layers: Layers, tables: Mapping[str, Any], label: str) -> None:
    """Merge tables over the present ones; a table whose tag changes is replaced entirely."""
    _merge(layers.tables, tables, label, "", layers.origins)


def _merge(
    old: Table, new: Mapping[str, Any], label: str, path: str, origins: dict[str, str]
) -> None:
    for key, value in new.items():
        full_path = f"{path}.{key}" if path else key
        before = old.get(key)
        if isinstance(value, Mapping):
            if isinstance(before, str) and "type" not in value:
                old[key] = {"type": before}  # the short form of a component
                origins[f"{full_path}.type"] = origins[full_path]
            elif not isinstance(before, dict) or _tag_changes(before, value):
                _forget(origins, full_path)
                old[key] = {}
            origins[full_path] = label
            _merge(old[key], value, label, full_path, origins)
        else:
            _forget(origins, full_path)
            old[key] = value
            origins[full_path] = label
            for i, item in enumerate(value if isinstance(value, list) else ()):
                origins[f"{full_path}[{i}]"] = label
                if isinstance(item, Mapping):
                    _merge({}, item, label, f"{full_path}[{i}]", origins)


def _tag_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(tag in new and tag in old and new[tag] != old[tag] for tag in _TAG_KEYS)


def _forget(origins: dict[str, str], path: str) -> None:
    for key in [key for key in origins if key == path or key.startswith((path + ".", path + "["))]:
        del origins[key]
