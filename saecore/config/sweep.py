"""Sweeps: one file that describes several experiments, its points.

`[sweep]` is a grid: each key stands for a setting of the experiment, and its list for the values
that are tried, every one with every one of the other keys. A value that is no list is the same for
all. Several grids are `[[sweep]]` tables; a table without lists is a single point. `seeds` at the
top of the file gives every point once per seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.config.experiment import NAME, NAME_EXPECTED, Experiment
from saecore.config.layers import Layers, Table, copy_of, merge, read_sweep
from saecore.config.load import structured
from saecore.config.naming import names
from saecore.errors import ConfigError
from saecore.plugins import Host, current_host

SEED = ("seed",)
WHOLE = ("output", "extends", "sweep", "seeds")
"""What a point cannot have of its own."""

Key = tuple[str, ...]


@attrs.frozen(eq=False)
class Point:
    """One experiment of a sweep."""

    name: str
    """What it is called: what differs from the other points."""
    experiment: Experiment
    """The experiment, called so; it writes into the sweep's directory."""
    layers: Layers
    """What it was made of."""
    differs: Mapping[str, Any]
    """Those of its settings in which the points differ, by TOML key."""


@attrs.frozen(eq=False)
class Sweep:
    """Several experiments of one file, all of them valid."""

    name: str
    """The file's `name`."""
    source: str
    """The file."""
    directory: Path
    """<output>/<name>: the points' runs are below it, in <point>/<id>."""
    points: Sequence[Point]
    """The experiments."""


def load_sweep(
    file: Path | str, settings: Sequence[str] = (), host: Host | None = None
) -> Sweep | None:
    """Read a sweep, and check every point of it.

    Args:
        file: a TOML file.
        settings: `key=value` strings laid over the file.
        host: the plugins to use; default: all that are installed.

    Returns:
        None where the file describes one experiment.

    Raises:
        ConfigError: with every problem of every point.
    """
    layers = read_sweep(Path(file), settings)
    entries, seeds = layers.tables.pop("sweep", None), layers.tables.pop("seeds", None)
    if entries is None and seeds is None:
        return None
    raw = list(_points(layers, _entries(layers, entries), seeds))
    called = names([(one.name, one.own, one.axes) for one in raw], layers)
    host = host or current_host()
    base = copy_of(layers)
    name = str(base.tables.get("name", "experiment"))
    if NAME.fullmatch(name) is None:
        raise ConfigError(layers.source, [f"name: {NAME_EXPECTED}, got {name!r}"])
    directory = Path(str(base.tables.get("output", "runs"))) / name
    points, problems = [], {}
    for one, called_so in zip(raw, called, strict=True):
        own = copy_of(base)
        merge(own, {**_nested(one.own), "name": called_so.name}, "sweep")
        try:
            experiment = structured(own, host)
        except ConfigError as error:
            problems[called_so.name] = error.problems
            continue
        placed = attrs.evolve(experiment, output=str(directory))
        points.append(Point(called_so.name, placed, own, called_so.differs))
    if problems:
        raise ConfigError(layers.source, list(_gathered(problems, len(raw))))
    return Sweep(name, layers.source, directory, points)


@attrs.frozen
class _Raw:
    """A point before it is checked."""

    name: str | None
    own: dict[Key, Any]
    axes: tuple[Key, ...]


def _entries(layers: Layers, given: Any) -> list[Mapping[str, Any]]:
    if given is None:
        return [{}]
    entries = [given] if isinstance(given, Mapping) else given
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        raise ConfigError(layers.source, ["sweep: expected a table [sweep], or several [[sweep]]"])
    if not entries or not all(entries):
        raise ConfigError(layers.source, ["sweep: expected at least one setting in each table"])
    return entries


def _points(layers: Layers, entries: list[Mapping[str, Any]], seeds: Any) -> Iterator[_Raw]:
    problems = []
    if seeds is not None and (not isinstance(seeds, list) or not seeds):
        problems.append(f"seeds: expected a list such as [0, 1, 2], got {seeds!r}")
    given = []
    for number, entry in enumerate(entries):
        where = "sweep" if len(entries) == 1 else f"sweep[{number}]"
        settings = dict(_leaves(entry))
        name = settings.pop(("name",), None)
        problems += _wrong(layers, where, settings, name, seeds)
        given.append((settings, name))
    if problems:
        raise ConfigError(layers.source, problems)
    for settings, name in given:
        lists = {key: one for key, one in settings.items() if isinstance(one, list)}
        lists = lists if seeds is None else {**lists, SEED: seeds}
        for values in itertools.product(*lists.values()):
            own = {**settings, **dict(zip(lists, values, strict=True))}
            yield _Raw(name, own, tuple(lists))


def _wrong(
    layers: Layers, where: str, settings: Mapping[Key, Any], name: Any, seeds: Any
) -> Iterator[str]:
    if name is not None and not isinstance(name, str):
        yield f"{where}.name: expected one name, got {name!r}"
    for key, value in settings.items():
        dotted = ".".join(key)
        quoted = next((part for part in key if "." in part), None)
        if quoted is not None:
            yield f'{where}."{quoted}": write the key without quotes: {quoted} = …'
        elif key[0] in WHOLE:
            yield f"{where}.{dotted}: one for the whole sweep; put it at the top of the file"
        elif value == []:
            yield f"{where}.{dotted}: expected at least one value"
        elif key == SEED and seeds is not None:
            yield f"{where}.seed: given by seeds; remove one of the two"
        elif layers.origins.get(dotted) == "--set":
            yield f"--set {dotted}: the sweep gives it; use --set sweep.{dotted}=[…]"


def _leaves(table: Mapping[str, Any], path: Key = ()) -> Iterator[tuple[Key, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _nested(settings: Mapping[Key, Any]) -> Table:
    tables: Table = {}
    for (*parents, last), value in settings.items():
        inner = tables
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return tables


def _gathered(problems: Mapping[str, list[str]], points: int) -> Iterator[str]:
    """Problems with the names of their points; what all points share is said once."""
    seen = set()
    for name, lines in problems.items():
        for line in lines:
            if sum(line in one for one in problems.values()) < points:
                yield f"{name}: {line}"
            elif line not in seen:
                yield line
            seen.add(line)
