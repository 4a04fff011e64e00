"""Names of a sweep's points, from the settings in which they differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from saecore.config.layers import Layers
from saecore.errors import ConfigError
from saecore.plugins.hookspecs import TAGS

Key = tuple[str, ...]
"""The parts of a dotted key."""
LONGEST = 96
"""Most characters of a name, which is also the name of a directory."""


@attrs.frozen
class PointName:
    """A point's name, and the settings in which it differs from other points."""

    name: str
    differs: Mapping[str, Any]
    """Settings by TOML key."""


def name_points(
    points: Sequence[tuple[str | None, Mapping[Key, Any], Sequence[Key]]], layers: Layers
) -> list[PointName]:
    """Name every point of a sweep.

    Args:
        points: for each point, the name that its table sets (if any), its settings, and the keys
            that its grid varies. A set name replaces the settings that the grid does not vary.
        layers: the file without its sweep, for the values of settings that a point does not set.

    Raises:
        ConfigError: two points have the same name, or a name is too long for a directory.
    """
    keys = list(dict.fromkeys(key for _, settings, _ in points for key in settings))
    rows = [
        {key: settings.get(key, _value(layers.tables, key)) for key in keys}
        for _, settings, _ in points
    ]
    varied = [key for key in keys if any(row[key] != rows[0][key] for row in rows)]
    # A setting that some points lack, and that has one value in the others, tells nothing.
    telling = [
        key for key in varied
        if len({repr(row[key]) for row in rows if row[key] is not None}) > 1
    ]  # fmt: skip

    def named_by(shown: Sequence[Key]) -> list[PointName]:
        names = []
        for (set_name, settings, axes), row in zip(points, rows, strict=True):
            parts = [set_name] if set_name else []
            for key in shown:
                if key in settings and (set_name is None or key in axes):
                    parts.append(_part(key, row[key], keys))
            differs = {".".join(key): row[key] for key in varied if row[key] is not None}
            names.append(PointName("-".join(parts) or "point", differs))
        return names

    short = named_by(telling)
    names = short if len({name.name for name in short}) == len(short) else named_by(varied)
    _check([name.name for name in names])
    return names


def _check(names: list[str]) -> None:
    problems = []
    for name in dict.fromkeys(names):
        numbers = [i for i, other in enumerate(names, 1) if other == name]
        if len(numbers) > 1:
            problems.append(
                f'sweep: points {" and ".join(map(str, numbers))} are both called "{name}"; '
                "make them differ, or give each [[sweep]] table a name"
            )
        if len(name) > LONGEST:
            problems.append(
                f'sweep: "{name}" is longer than {LONGEST} characters; give the [[sweep]] table a '
                "name"
            )
    if problems:
        raise ConfigError(problems)


def _part(key: Key, value: Any, keys: Sequence[Key]) -> str:
    """Format one setting for a name, such as `topk`, `k32` or `seed0`."""
    last = key[-1]
    words = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if words or isinstance(value, str | Mapping) or last in ("type", *TAGS.values()):
        return _plain(value)
    if sum(other[-1] == last for other in keys) > 1 and len(key) > 1:
        last = f"{key[-2]}.{last}"
    return _plain(last) + _plain(value)


def _plain(value: Any) -> str:
    """Format a value with characters that are allowed in the name of a directory."""
    if isinstance(value, Mapping):
        return "-".join(map(_plain, value.values()))
    if isinstance(value, list):
        return "-".join(map(_plain, value))
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = text.lower() if isinstance(value, bool) else text
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "x"


def _value(tables: Mapping[str, Any], key: Key) -> Any:
    value: Any = tables
    for part in key:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
