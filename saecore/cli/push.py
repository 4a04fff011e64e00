"""`saecore push PATH --repo USER/NAME`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from saecore.releases.upload import Published


@click.command("push")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--repo", required=True, metavar="USER/NAME", help="Repository of the hub.")
@click.option("--id", "name", metavar="ID", help="Name of the SAE; default: that of its hook.")
@click.option("--license", "licence", metavar="NAME", help="What the hub calls it, such as mit.")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision", metavar="BRANCH", help="Another branch than the main one.")
@click.option("--overwrite", is_flag=True, help="Replace files of other content without asking.")
def command(
    path: Path,
    repo: str,
    name: str | None,
    licence: str | None,
    private: bool,
    revision: str | None,
    overwrite: bool,
) -> None:
    """Publish PATH on the Hugging Face hub, in one commit, with a card.

    PATH is the directory of a run or of an SAE (of any format that can be read), or one that
    `saecore cache` or `saecore tokenize` has written. Log in before with `hf auth login`, or set
    HF_TOKEN.
    """
    from saecore.releases.publish import upload_saes_to_huggingface
    from saecore.releases.publish_cache import cache_type, upload_cache
    from saecore.releases.upload import ConflictError

    cache = cache_type(path)
    if cache is not None and name is not None:
        raise click.UsageError("--id is for SAEs; a cache takes a repository of its own")

    def push(overwrite: bool) -> Published:
        if cache is not None:
            return upload_cache(
                path,
                repo,
                private=private,
                overwrite=overwrite,
                revision=revision,
                license=licence,
            )
        return upload_saes_to_huggingface(
            [path] if name is None else {name: path},
            repo,
            private=private,
            overwrite=overwrite,
            revision=revision,
            license=licence,
        )

    try:
        done = push(overwrite)
    except ConflictError as conflict:
        if not interactive():
            raise
        click.echo(f"{repo} has other content under: {', '.join(conflict.names)}", err=True)
        click.confirm("Replace it?", abort=True, err=True)
        done = push(True)
    _report(done, cache)


def _report(done: Published, cache: str | None) -> None:
    """What was done, and how others get it."""
    if done.files:
        click.echo(f"{done.repository}: {len(done.files)} files in commit {done.commit[:12]}")
    else:
        click.echo(f"{done.repository}: everything is there already, commit {done.commit[:12]}")
    click.echo(f"  {done.url}")
    for note in done.notes:
        click.echo(f"  note: {note}")
    if cache is not None:
        settings = f"--set dataset.type={cache} --set dataset.repo={done.repository}"
        click.echo(f"train on it: saecore run FILE {settings}")
    for file in done.files:
        if file.endswith("/cfg.json"):
            call = f"SAE.from_pretrained({done.repository!r}, {file.removesuffix('/cfg.json')!r})"
            click.echo(f"load it:     sae, cfg_dict, sparsity = {call}")


def interactive() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()
