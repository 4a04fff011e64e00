"""Sweeps: one file that describes several experiments, its points.

`[sweep]` is a grid: each key is a setting of the experiment and each list its values; the points
are all combinations. A value that is not a list applies to all points. `[[sweep]]` tables are
several grids; a table without lists is a single point. `seeds` at the top of the file repeats every
point once per seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.config.experiment import NAME, NAME_EXPECTED, Experiment
from saecore.config.layers import Layers, Table, copy_of, merge
from saecore.config.sweep_names import Key, PointName, name_points
from saecore.config.validate import validated
from saecore.errors import ConfigError, labeled_errors

SEED = ("seed",)
KEYS = ("sweep", "seeds")
"""Keys that make a file describe a sweep."""
COMMON = ("output", "extends", *KEYS)
"""Keys that cannot vary between points."""


@attrs.frozen(eq=False, kw_only=True)
class Point:
    """One experiment of a sweep."""

    name: str
    """What differs from the other points, such as `k32-seed0`."""
    experiment: Experiment
    """The experiment, with this name; it writes into the sweep's directory."""
    layers: Layers
    """The tables it was made from."""
    differs: Mapping[str, Any]
    """The settings in which the points differ, by TOML key."""


@attrs.frozen(eq=False, kw_only=True)
class Sweep:
    """The experiments of one file, all of them valid."""

    name: str
    """The file's `name`."""
    label: str
    """The file."""
    directory: Path
    """<output>/<name>; runs lie in <point>/<id> below it."""
    points: Sequence[Point]
    """The experiments."""


def sweep_from_layers(layers: Layers) -> Sweep:
    """Build a sweep, and validate every point of it.

    Args:
        layers: a file with a key of `KEYS`.

    Raises:
        ConfigError: lists every problem of every point.
    """
    with labeled_errors(layers.label):
        base = copy_of(layers)
        entries, seeds = base.tables.pop("sweep", None), base.tables.pop("seeds", None)
        name = str(base.tables.get("name", "experiment"))
        drafts = list(_drafts(base, _grids(entries), seeds))
        names = name_points([(draft.name, draft.settings, draft.axes) for draft in drafts], base)
        if NAME.fullmatch(name) is None:
            raise ConfigError([f"name: {NAME_EXPECTED}, got {name!r}"])
        directory = Path(str(base.tables.get("output", "runs"))) / name
        points = _validated_points(base, drafts, names, directory)
    return Sweep(name=name, label=layers.label, directory=directory, points=points)


@attrs.frozen
class _Draft:
    """A point before validation."""

    name: str | None
    """The name that its table sets."""
    settings: dict[Key, Any]
    axes: tuple[Key, ...]
    """The settings that its grid varies."""


def _validated_points(
    base: Layers, drafts: Sequence[_Draft], names: Sequence[PointName], directory: Path
) -> list[Point]:
    points, problems = [], {}
    for draft, name in zip(drafts, names, strict=True):
        layers = copy_of(base)
        merge(layers, {**_nested(draft.settings), "name": name.name}, "sweep")
        try:
            experiment = validated(layers)
        except ConfigError as error:
            problems[name.name] = error.problems
            continue
        experiment = attrs.evolve(experiment, output=str(directory))
        points.append(
            Point(name=name.name, experiment=experiment, layers=layers, differs=name.differs)
        )
    if problems:
        raise ConfigError(list(_merged(problems, len(drafts))))
    return points


def _grids(entries: Any) -> list[Mapping[str, Any]]:
    """Return the [sweep] table or [[sweep]] tables as a list; one empty grid if there is none."""
    if entries is None:
        return [{}]
    grids = [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(grids, list) or not all(isinstance(grid, Mapping) for grid in grids):
        raise ConfigError(["sweep: expected a table [sweep], or several [[sweep]]"])
    if not grids or not all(grids):
        raise ConfigError(["sweep: expected at least one setting in each table"])
    return grids


def _drafts(layers: Layers, grids: list[Mapping[str, Any]], seeds: Any) -> Iterator[_Draft]:
    """Expand grids into points."""
    problems = []
    if seeds is not None and (not isinstance(seeds, list) or not seeds):
        problems.append(f"seeds: expected a list such as [0, 1, 2], got {seeds!r}")
    parsed = []
    for number, grid in enumerate(grids):
        path = "sweep" if len(grids) == 1 else f"sweep[{number}]"
        settings = dict(_leaves(grid))
        name = settings.pop(("name",), None)
        problems += _problems(layers, path, settings, name, seeds)
        parsed.append((settings, name))
    if problems:
        raise ConfigError(problems)
    for settings, name in parsed:
        lists = {key: value for key, value in settings.items() if isinstance(value, list)}
        lists = lists if seeds is None else {**lists, SEED: seeds}
        for values in itertools.product(*lists.values()):
            combination = {**settings, **dict(zip(lists, values, strict=True))}
            yield _Draft(name, combination, tuple(lists))


def _problems(
    layers: Layers, path: str, settings: Mapping[Key, Any], name: Any, seeds: Any
) -> Iterator[str]:
    if name is not None and not isinstance(name, str):
        yield f"{path}.name: expected one name, got {name!r}"
    for key, value in settings.items():
        dotted = ".".join(key)
        quoted = next((part for part in key if "." in part), None)
        if quoted is not None:
            yield f'{path}."{quoted}": write the key without quotes: {quoted} = …'
        elif key[0] in COMMON:
            yield f"{path}.{dotted}: one for the whole sweep; move it to the top of the file"
        elif value == []:
            yield f"{path}.{dotted}: expected at least one value"
        elif key == SEED and seeds is not None:
            yield f"{path}.seed: given by seeds; remove one of the two"
        elif layers.origins.get(dotted) == "--set":
            yield f"--set {dotted}: the sweep sets it; use --set sweep.{dotted}=[…]"


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


def _merged(problems: Mapping[str, list[str]], points: int) -> Iterator[str]:
    """List problems with the names of their points; a problem of all points is listed once."""
    seen = set()
    for name, lines in problems.items():
        for line in lines:
            if sum(line in other for other in problems.values()) < points:
                yield f"{name}: {line}"
            elif line not in seen:
                yield line
            seen.add(line)
