"""`saecore init [DIRECTORY]`."""

from __future__ import annotations

from pathlib import Path

import click

from saecore.errors import SaecoreError
from saecore.files import explained


def examples() -> Path:
    """Where the example experiments are: in the wheel, or at the checkout of an editable install.

    Raises:
        SaecoreError: neither is there.
    """
    package = Path(__file__).parent.parent
    for place in (package / "_experiments", package.parent / "experiments"):
        if place.is_dir():
            return place
    raise SaecoreError("the example experiments are missing; install saecore again")


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
def command(directory: Path) -> None:
    """Write the example experiments to DIRECTORY/experiments (default: here).

    Files that are there already are left alone.
    """
    target = directory / "experiments"
    source = examples()
    for file in sorted(source.rglob("*.toml")):
        to = target / file.relative_to(source)
        if to.exists():
            click.echo(f"kept     {to} (exists)")
            continue
        with explained(to):
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        click.echo(f"wrote    {to}")
    click.echo(f"next:    saecore run {target / 'topk.toml'}")
