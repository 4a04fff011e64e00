"""`saecore check FILE`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Lay a value over the file."
)
def command(file: Path, settings: tuple[str, ...]) -> None:
    """Validate FILE and print every setting with where it was set.

    The origin of a value is the file, a file it extends, --set, or "default".
    """
    from saecore.config import load_experiment
    from saecore.config.explain import annotated

    experiment, layers = load_experiment(file, settings)
    click.echo(annotated(experiment, layers), nl=False)
