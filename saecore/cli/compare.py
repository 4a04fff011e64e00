"""`saecore compare RUNS…`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saecore.cli._options import out_option, runs_argument, title_option
from saecore.errors import SaecoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saecore.reports.seeds import Row


@click.command("compare")
@runs_argument
@click.option("--markdown", "form", flag_value="markdown", help="Print a Markdown table.")
@click.option("--json", "form", flag_value="json", help="Print JSON: rows, runs, differences.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, one line per run.")
@out_option("HTML")
@title_option("the name of the first directory")
@click.option("--no-stability", is_flag=True, help="Do not match dictionaries between seeds.")
def command(
    paths: tuple[Path, ...],
    form: str | None,
    out: Path | None,
    title: str | None,
    no_stability: bool,
) -> None:
    """Compare finished RUNS: directories of runs, of sweeps, or directories that contain runs.

    Runs that differ only in their seed share a row: means, 95 % intervals, and how well the
    dictionaries of different seeds match (MCC, up to 4,096 latents). --out writes a report with
    plots.
    """
    from saecore.reports.html import write_report
    from saecore.reports.runs import read_runs
    from saecore.reports.seeds import rows
    from saecore.reports.table import as_csv, as_json, markdown

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise SaecoreError(f"--out {out}: expected a file that ends in .html")
    groups = rows(read_runs(paths), stability=not no_stability)
    if form is None:
        _print(groups)
    else:
        click.echo({"markdown": markdown, "json": as_json, "csv": as_csv}[form](groups).rstrip())
    if out is not None:
        write_report(out, groups, title or paths[0].resolve().name)
        click.echo(f"wrote {out}", err=form is not None)


def _print(groups: Sequence[Row]) -> None:
    """Print the table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    from saecore.reports.table import cells

    head, lines = cells(groups)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in head:
        text = heading in ("run", "architecture")
        table.add_column(
            heading,
            justify="left" if text else "right",
            no_wrap=heading != "run",
            overflow="fold",
            min_width=16 if heading == "run" else None,
        )
    for line in lines:
        table.add_row(*line)
    # A file or a pipe gets unwrapped lines.
    Console(width=None if sys.stdout.isatty() else 1000).print(table)
