"""`saecore show FILE [POINT]`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saecore.errors import SaecoreError, nearest

if TYPE_CHECKING:
    from saecore.config.sweep import Sweep


@click.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("point", required=False)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Lay a value over the file."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, point: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """List the points of the sweep in FILE and how they share the model's forward.

    With POINT, print that experiment, resolved, with where each value was set; it can be run by
    itself. A FILE of one experiment is printed so, too.
    """
    from saecore.config import load_experiment
    from saecore.config.explain import annotated, to_tables
    from saecore.config.sweep import load_sweep

    sweep = load_sweep(file, settings)
    if sweep is not None and point is None:
        rows = _rows(sweep)
        click.echo(json.dumps(rows, indent=1) if as_json else _list(sweep, rows))
        return
    if sweep is None:
        if point is not None:
            raise SaecoreError(f"{file}: has one experiment, and no point {point}; leave it out")
        experiment, layers = load_experiment(file, settings)
    else:
        known = {one.name: one for one in sweep.points}
        if point not in known:
            raise SaecoreError(
                f"{file}: has no point {point}{nearest(str(point), list(known))} "
                f"(`saecore show {file}` lists them)"
            )
        experiment, layers = known[point].experiment, known[point].layers
    click.echo(
        json.dumps(to_tables(experiment), indent=1) if as_json else annotated(experiment, layers)
    )


def _rows(sweep: Sweep) -> list[dict[str, Any]]:
    from saecore.sweep.groups import groups

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
