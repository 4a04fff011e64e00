"""`saecore pull RELEASE [SAE_ID]`."""

from __future__ import annotations

from pathlib import Path

import click

from saecore.cli._options import release_arguments
from saecore.errors import ReleaseError


@click.command("pull")
@release_arguments
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also save it to DIR in saecore's format.",
)
def command(release: str, sae_id: str, to: Path | None) -> None:
    """Download a published SAE, check it by loading it, and print a summary.

    RELEASE is a release of the catalogue, a hub repository (username/repo-name) or a directory, and
    SAE_ID the SAE's name or path in it; RELEASE:SAE_ID is the same.
    """
    if to is not None and to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ReleaseError(f"--to {to}: already exists; choose a directory that is new or empty")
    from saecore.core.sae import SAE

    sae, _, sparsity = SAE.from_pretrained(release, sae_id, dtype=None)
    metadata = sae.cfg.metadata
    click.echo(
        f"{release} {sae_id}".rstrip() + f": {sae.cfg.architecture}, {sae.cfg.d_in:,} to "
        f"{sae.cfg.d_sae:,}, {sae.cfg.dtype}\n"
        f"  reads      {metadata.get('hook_name')} of {metadata.get('model_name')}"
    )
    figures = {"L0": metadata.get("l0"), "explained variance": metadata.get("variance_explained")}
    known = [f"{name} {value:g}" for name, value in figures.items() if value is not None]
    if known:
        click.echo(f"  published  {', '.join(known)}")
    source = metadata.get("source")
    if source:
        click.echo(
            f"  from       {source['repository']}/{source['path']} at {source['commit'][:12]} "
            f"({source['format']})"
        )
    if to is None:
        call = f"SAE.from_pretrained({release!r}, {sae_id!r})"
        click.echo(f"load it:     sae, cfg_dict, sparsity = {call}")
    else:
        sae.save_model(to, sparsity)
        click.echo(f"load it:     sae = SAE.load_from_disk({str(to)!r})")
