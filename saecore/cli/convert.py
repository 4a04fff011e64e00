"""`saecore convert IN OUT --to FORMAT`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert")
@click.argument("given", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--to", "name", required=True, metavar="FORMAT", help="The format of OUT.")
@click.option("--sae", metavar="PATH", help="Which SAE of IN, where it has several.")
@click.option("--force", is_flag=True, help="Replace OUT where it holds such an SAE already.")
def command(given: Path, out: Path, name: str, sae: str | None, force: bool) -> None:
    """Write the SAE at IN, in any format that can be read, to the directory OUT in another format.

    FORMAT is saelens, dictionary_learning, sparsify, llamascopium or gemma_scope. The features and
    reconstructions of OUT are those of IN, or nothing is written and the reason is printed.
    """
    from saecore.releases.convert import convert, find, writer
    from saecore.releases.load import load

    writer(name)  # before anything is read
    loaded = load(*find(given, sae))
    notes = convert(loaded, name, out, force)
    cfg = loaded.sae.cfg
    click.echo(f"read     {given}: {cfg.architecture}, d_in = {cfg.d_in}, d_sae = {cfg.d_sae}")
    click.echo(f"wrote    {out}: {name}, the same features and reconstructions")
    for note in notes:
        click.echo(f"note     {note}")
