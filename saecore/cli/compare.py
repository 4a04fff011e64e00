"""`saecore compare RUNS…`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saecore.errors import SaecoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saecore.compare import Row


@click.command("compare")
@click.argument("places", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUNS…")
@click.option("--markdown", "form", flag_value="markdown", help="Print a Markdown table.")
@click.option("--json", "form", flag_value="json", help="Print JSON: rows, runs, differences.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, a line for each run.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a report with plots, one HTML file.",
)
@click.option("--title", help="Heading of the report; default: the name of the first directory.")
@click.option("--no-stability", is_flag=True, help="Do not match dictionaries between seeds.")
def command(
    places: tuple[Path, ...],
    form: str | None,
    out: Path | None,
    title: str | None,
    no_stability: bool,
) -> None:
    """Compare finished RUNS: directories of runs, of sweeps, or of several runs.

    Runs that differ only in their seed are one row: means, 95 % intervals, and how well the
    dictionaries of different seeds match (MCC, up to 4,096 latents).
    """
    from saecore.compare import read_runs, rows, write_report
    from saecore.compare.table import as_csv, as_json, markdown

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise SaecoreError(f"--out {out}: expected a file that ends in .html")
    found = rows(read_runs(places), stability=not no_stability)
    if form is None:
        _print(found)
    else:
        click.echo({"markdown": markdown, "json": as_json, "csv": as_csv}[form](found).rstrip())
    if out is not None:
        write_report(out, found, title or places[0].resolve().name)
        click.echo(f"wrote {out}", err=form is not None)


def _print(found: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    from saecore.compare.table import cells

    head, lines = cells(found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for one in head:
        text = one in ("run", "architecture")
        table.add_column(
            one,
            justify="left" if text else "right",
            no_wrap=one != "run",
            overflow="fold",
            min_width=16 if one == "run" else None,
        )
    for line in lines:
        table.add_row(*line)
    # Into a file or a pipe nothing is broken into lines.
    Console(width=None if sys.stdout.isatty() else 1000).print(table)
