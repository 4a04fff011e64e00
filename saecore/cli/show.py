"""`saecore show FILE [POINT]`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saecore.cli._options import experiment_argument, json_option, set_option
from saecore.errors import SaecoreError, nearest

if TYPE_CHECKING:
    from saecore.config.sweep import Point, Sweep


@click.command("show")
@experiment_argument
@click.argument("point", required=False)
@set_option()
@json_option()
def command(file: Path, point: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """List the points of the sweep in FILE, and which share the model's forward pass.

    With POINT, print that experiment, resolved, with the origin of each value; the output can be
    run as a file. A FILE of one experiment is printed in the same way.
    """
    from saecore.config.load import LoadedExperiment, load
    from saecore.config.messages import annotated, to_tables

    loaded = load(file, settings)
    if isinstance(loaded, LoadedExperiment):
        if point is not None:
            raise SaecoreError(f"{file}: has one experiment and no point {point}; leave it out")
        experiment, layers = loaded.experiment, loaded.layers
    elif point is not None:
        chosen = _point(file, loaded, point)
        experiment, layers = chosen.experiment, chosen.layers
    else:
        rows = _rows(loaded)
        click.echo(json.dumps(rows, indent=1) if as_json else _list(loaded, rows))
        return
    click.echo(
        json.dumps(to_tables(experiment), indent=1) if as_json else annotated(experiment, layers)
    )


def _point(file: Path, sweep: Sweep, name: str) -> Point:
    """Return a point by name."""
    points = {point.name: point for point in sweep.points}
    if name not in points:
        raise SaecoreError(
            f"{file}: has no point {name}{nearest(name, list(points))} "
            f"(`saecore show {shlex.quote(str(file))}` lists them)"
        )
    return points[name]


def _rows(sweep: Sweep) -> list[dict[str, Any]]:
    from saecore.sweeps.groups import groups

    return [
        {"name": point.name, "differs": dict(point.differs), "stream": number, "apart": group.apart}
        for number, group in enumerate(groups(sweep.points), 1)
        for point in group.points
    ]


def _list(sweep: Sweep, rows: list[dict[str, Any]]) -> str:
    streams = max(row["stream"] for row in rows)
    word = "stream" if streams == 1 else "streams"
    lines = [f"{sweep.name}: {len(rows)} points on {streams} {word}, runs in {sweep.directory}"]
    width = max(len(row["name"]) for row in rows)
    stream = 1
    for row in rows:
        if row["stream"] != stream:
            stream = row["stream"]
            lines.append(f"apart, {row['apart']}:")
        differs = "  ".join(f"{key} = {value}" for key, value in row["differs"].items())
        lines.append(f"  {row['name']:<{width}}  {differs}".rstrip())
    return "\n".join(lines)
