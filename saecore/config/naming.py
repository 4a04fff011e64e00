"""Names of a sweep's points: what differs between them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from saecore.components import TAGS
from saecore.config.layers import Layers
from saecore.errors import ConfigError

Key = tuple[str, ...]
LONGEST = 96
"""Characters of a name, which is a directory's."""


@attrs.frozen
class Called:
    """A point's name, and the settings that it rests on."""

    name: str
    differs: Mapping[str, Any]


def names(
    points: Sequence[tuple[str | None, Mapping[Key, Any], Sequence[Key]]], layers: Layers
) -> list[Called]:
    """Name every point of a sweep.

    Args:
        points: the name given, if there is one; settings; those that the point's own grid varies.
            A given name stands for the settings that the grid does not vary.
        layers: the file without its sweep: the value of a setting that a point leaves alone.

    Raises:
        ConfigError: two points have one name, or a name is too long for a directory.
    """
    keys = list(dict.fromkeys(key for _, own, _ in points for key in own))
    lines = [
        {key: own.get(key, _value(layers.tables, key)) for key in keys} for _, own, _ in points
    ]
    varied = [key for key in keys if any(one[key] != lines[0][key] for one in lines)]
    # A setting that some points have and others lack says nothing where it is always the same.
    telling = [
        key
        for key in varied
        if len({repr(one[key]) for one in lines if one[key] is not None}) > 1
    ]  # fmt: skip

    def called(shown: Sequence[Key]) -> list[Called]:
        found = []
        for (given, own, axes), values in zip(points, lines, strict=True):
            parts = [given] if given else []
            for key in shown:
                if key in own and (given is None or key in axes):
                    parts.append(_part(key, values[key], keys))
            differs = {".".join(key): values[key] for key in varied if values[key] is not None}
            found.append(Called("-".join(parts) or "point", differs))
        return found

    short = called(telling)
    found = short if len({one.name for one in short}) == len(short) else called(varied)
    _check([one.name for one in found], layers.source)
    return found


def _check(found: list[str], source: str) -> None:
    problems = []
    for name in dict.fromkeys(found):
        places = [i + 1 for i, one in enumerate(found) if one == name]
        if len(places) > 1:
            numbers = " and ".join(map(str, places))
            problems.append(
                f'sweep: points {numbers} are both called "{name}"; make them differ, or give each '
                "[[sweep]] table a name"
            )
        if len(name) > LONGEST:
            problems.append(
                f'sweep: "{name}" is longer than {LONGEST} characters; give the [[sweep]] table a '
                "name"
            )
    if problems:
        raise ConfigError(source, problems)


def _part(key: Key, value: Any, keys: Sequence[Key]) -> str:
    """Such as `topk`, `k32` or `seed0`."""
    last = key[-1]
    words = isinstance(value, list) and all(isinstance(one, str) for one in value)
    if words or isinstance(value, str | Mapping) or last in ("type", *TAGS.values()):
        return _plain(value)
    if sum(one[-1] == last for one in keys) > 1 and len(key) > 1:
        last = f"{key[-2]}.{last}"
    return _plain(last) + _plain(value)


def _plain(value: Any) -> str:
    """A value with the characters that a directory's name may have."""
    if isinstance(value, Mapping):
        return "-".join(_plain(one) for one in value.values())
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
