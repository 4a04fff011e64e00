"""`saecore plot RUNS…`."""

from __future__ import annotations

from pathlib import Path

import click

from saecore.errors import SaecoreError

ENDINGS = (".png", ".svg", ".html")


@click.command("plot")
@click.argument("places", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUNS…")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    default=Path("plots.png"),
    show_default=True,
    help="The file to write: its ending says the format, .png, .svg or .html.",
)
@click.option("--title", help="Heading of a page; default: the name of the first directory.")
def command(places: tuple[Path, ...], out: Path, title: str | None) -> None:
    """Plot finished RUNS: directories of runs, of sweeps, or of several runs.

    Losses, explained variance, L0 and dead latents over training, how dense the latents are, and
    sparsity against reconstruction where there are several runs.
    """
    if out.suffix.lower() not in ENDINGS:
        raise SaecoreError(f"--out {out}: expected a file that ends in {', '.join(ENDINGS)}")
    from saecore.compare import read_runs
    from saecore.plots import plots, write_plots

    runs = read_runs(places)
    write_plots(out, plots(runs), title or places[0].resolve().name)
    click.echo(f"wrote {out}: {len(runs)} run{'s' if len(runs) != 1 else ''}")
