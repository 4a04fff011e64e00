"""`saecore plot RUNS…`."""

from __future__ import annotations

from pathlib import Path

import click

from saecore.cli._options import out_option, runs_argument, title_option
from saecore.errors import SaecoreError

EXTENSIONS = (".png", ".svg", ".html")


@click.command("plot")
@runs_argument
@out_option("PNG, SVG or HTML", default="plots.png")
@title_option("the name of the first directory")
def command(paths: tuple[Path, ...], out: Path, title: str | None) -> None:
    """Plot finished RUNS: directories of runs, of sweeps, or directories that contain runs.

    Draws losses, explained variance, L0 and dead latents over training, the density of latents
    and, for several runs, reconstruction against sparsity.
    """
    if out.suffix.lower() not in EXTENSIONS:
        raise SaecoreError(f"--out {out}: expected a file that ends in {', '.join(EXTENSIONS)}")
    from saecore.reports.matplotlib import write_plots
    from saecore.reports.plots import plots
    from saecore.reports.runs import read_runs

    runs = read_runs(paths)
    write_plots(out, plots(runs), title or paths[0].resolve().name)
    click.echo(f"wrote {out}: {len(runs)} run{'s' if len(runs) != 1 else ''}")
