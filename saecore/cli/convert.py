"""`saecore convert IN OUT --to FORMAT`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert")
@click.argument("given", metavar="IN")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--to", "name", required=True, metavar="FORMAT", help="The format of OUT.")
@click.option("--sae", metavar="PATH", help="Which SAE of IN, where it has several.")
@click.option("--force", is_flag=True, help="Replace OUT where it holds such an SAE already.")
def command(given: str, out: Path, name: str, sae: str | None, force: bool) -> None:
    """Write the SAE at IN, in any format that can be read, to the directory OUT in another format.

    IN is a directory, the file of an SAE, or RELEASE:SAE_ID of the catalogue or the hub.

    FORMAT is saelens, dictionary_learning, sparsify, llamascopium or gemma_scope. The features and
    reconstructions of OUT are those of IN, or nothing is written and the reason is printed.
    """
    from saecore.releases.convert import convert, read, writer

    writer(name)  # before anything is read
    loaded = read(given, sae)
    notes = convert(loaded, name, out, force)
    cfg = loaded.sae.cfg
    click.echo(f"read     {given}: {cfg.architecture}, d_in = {cfg.d_in}, d_sae = {cfg.d_sae}")
    click.echo(f"wrote    {out}: {name}, the same features and reconstructions")
    for note in notes:
        click.echo(f"note     {note}")
