"""Layers of an experiment: the file, what it extends, `--set`; and where each value came from."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.components import TAGS
from saecore.errors import ConfigError

Table = dict[str, Any]
_TAG_KEYS = ("type", *TAGS.values())


@attrs.define
class Layers:
    """The merged tables of an experiment and the origin of every value.

    `origins` maps a dotted path (as in error messages) to a file name or `--set`.
    """

    source: str
    tables: Table = attrs.field(factory=dict)
    origins: dict[str, str] = attrs.field(factory=dict)


def read_layers(file: Path, settings: Sequence[str] = ()) -> Layers:
    """Read a TOML file (or the experiment.json of a run), what it extends, and `--set` values.

    Raises:
        ConfigError: a file is missing, is not TOML, extends itself, or a setting is malformed; or
            it describes several experiments.
    """
    layers = read_sweep(file, settings)
    for key in ("sweep", "seeds"):
        if key in layers.tables:
            raise ConfigError(
                layers.source,
                [f"{key}: expected one experiment, and this file describes several: `saecore show "
                 f"{file}` lists them, `saecore run {file}` trains them all"],
            )  # fmt: skip
    return layers


def read_sweep(file: Path, settings: Sequence[str] = ()) -> Layers:
    """Read layers that may describe several experiments.

    Raises:
        ConfigError: see `read_layers`.
    """
    layers = Layers(str(file))
    _add_file(layers, file, ())
    for setting in settings:
        add_setting(layers, setting)
    return layers


def copy_of(layers: Layers) -> Layers:
    """Layers of their own, equal to these."""
    return Layers(layers.source, copy.deepcopy(layers.tables), dict(layers.origins))


def _add_file(layers: Layers, file: Path, above: tuple[Path, ...]) -> None:
    if file.resolve() in above:
        chain = " -> ".join(str(one.name) for one in (*above, file))
        raise ConfigError(layers.source, [f"extends: a file extends itself: {chain}"])
    tables = _read(file, layers.source)
    extends = tables.pop("extends", [])
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise ConfigError(layers.source, ["extends: expected a file name or a list of them"])
    for name in names:
        _add_file(layers, file.parent / name, (*above, file.resolve()))
    label = layers.source if not above else file.name
    merge(layers, tables, label)


def _read(file: Path, source: str) -> Table:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            source, [f"{file}: no such file (`saecore init` writes example experiments)"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(source, [f"{file}: cannot be read: {reason}"]) from None
    try:
        if file.suffix == ".json":
            return _from_run(text)
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(source, [f"{file.name}: cannot be parsed: {error}"]) from None


def _from_run(text: str) -> Table:
    """The tables of a run's experiment.json."""
    import json

    record = json.loads(text)
    if not isinstance(record, dict) or not isinstance(record.get("experiment"), dict):
        raise ValueError("not the experiment.json of a run (it has no table `experiment`)")
    return dict(record["experiment"])


def add_setting(layers: Layers, setting: str) -> None:
    """Lay a `key=value` over what is there; the value is read as TOML, else as a string.

    Raises:
        ConfigError: it is malformed.
    """
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(layers.source, [f"--set {setting}: expected key=value, such as sae.k=64"])
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = parsed["value"] if len(parsed) == 1 else text
    except (ValueError, RecursionError):
        value = text  # a bare word is a string
    add_value(layers, key, value)


def add_value(layers: Layers, key: str, value: Any) -> None:
    """Lay a value over what is there, under a dotted key."""
    nested: Table = {}
    inner = nested
    *parents, last = key.split(".")
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    merge(layers, nested, "--set")


def merge(layers: Layers, tables: Mapping[str, Any], label: str) -> None:
    """Merge tables over what is there; a table whose tag changes replaces the old one whole."""
    _merge(layers.tables, tables, label, "", layers.origins)


def _merge(
    old: Table, new: Mapping[str, Any], label: str, path: str, origins: dict[str, str]
) -> None:
    for key, value in new.items():
        here = f"{path}.{key}" if path else key
        before = old.get(key)
        if isinstance(value, Mapping):
            if isinstance(before, str) and "type" not in value:
                old[key] = {"type": before}  # the short spelling of a component
                origins[f"{here}.type"] = origins[here]
            elif not isinstance(before, dict) or _tag_changes(before, value):
                _forget(origins, here)
                old[key] = {}
            origins[here] = label
            _merge(old[key], value, label, here, origins)
        else:
            _forget(origins, here)
            old[key] = value
            origins[here] = label
            for i, one in enumerate(value if isinstance(value, list) else ()):
                origins[f"{here}[{i}]"] = label
                if isinstance(one, Mapping):
                    _merge({}, one, label, f"{here}[{i}]", origins)


def _tag_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(tag in new and tag in old and new[tag] != old[tag] for tag in _TAG_KEYS)


def _forget(origins: dict[str, str], path: str) -> None:
    for one in [one for one in origins if one == path or one.startswith((path + ".", path + "["))]:
        del origins[one]
