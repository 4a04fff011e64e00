"""`saecore convert IN OUT --to FORMAT`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert")
@click.argument("name", metavar="IN")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, metavar="FORMAT", help="The format of OUT.")
@click.option("--sae", metavar="PATH", default="", help="Which SAE of IN, if it has several.")
@click.option("--force", is_flag=True, help="Replace OUT if it holds an SAE of this format.")
def command(name: str, out: Path, target: str, sae: str, force: bool) -> None:
    """Convert the SAE at IN to another format and write it to the directory OUT.

    IN is the directory of a run or an SAE, the file of an SAE, or RELEASE:SAE_ID of the catalogue
    or the hub.

    FORMAT is saelens, dictionary_learning, sparsify, llamascopium or gemma_scope. OUT has the same
    features and reconstructions as IN; if the format cannot express them, nothing is written and
    the reason is printed.
    """
    from saecore.releases.convert import convert, writer
    from saecore.releases.resolve import resolve

    writer(target)  # fail before anything is read
    loaded = resolve(name, sae).load()
    notes = convert(loaded, target, out, force)
    cfg = loaded.sae.cfg
    click.echo(f"read     {name}: {cfg.architecture}, d_in = {cfg.d_in}, d_sae = {cfg.d_sae}")
    click.echo(f"wrote    {out}: {target}, the same features and reconstructions")
    for note in notes:
        click.echo(f"note     {note}")
