"""`saecore init [DIRECTORY]`."""

from __future__ import annotations

from pathlib import Path

import click

from saecore.cli._printed import command_line
from saecore.errors import SaecoreError
from saecore.storage.files import storage_errors


def examples() -> Path:
    """Return the directory of the example experiments, in the wheel or in the checkout.

    Raises:
        SaecoreError: there is neither.
    """
    package = Path(__file__).parent.parent
    for directory in (package / "_experiments", package.parent / "experiments"):
        if directory.is_dir():
            return directory
    raise SaecoreError("the example experiments are missing; reinstall saecore")


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.pass_context
def command(ctx: click.Context, directory: Path) -> None:
    """Write the example experiments to DIRECTORY/experiments (default: the current directory).

    Existing files are not changed.
    """
    target = directory / "experiments"
    source = examples()
    for example in sorted(source.rglob("*.toml")):
        copy = target / example.relative_to(source)
        if copy.exists():
            click.echo(f"kept     {copy} (exists)")
            continue
        with storage_errors(copy, setting="DIRECTORY"):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
        click.echo(f"wrote    {copy}")
    click.echo(f"next:    {command_line(ctx, 'run', target / 'topk.toml')}")
