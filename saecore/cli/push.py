"""`saecore push SAE_OR_RUN --repo USER/NAME`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saecore.cli._printed import command_line, set_words, unused_buffer

if TYPE_CHECKING:
    from saecore.storage.hub_upload import Published


@click.command("push")
@click.argument("name", metavar="SAE_OR_RUN")
@click.option("--repo", required=True, metavar="USER/NAME", help="The hub repository.")
@click.option(
    "--id", "sae_id", metavar="ID", help="The SAE's name in the repository; default: its hook."
)
@click.option("--license", "license", metavar="NAME", help="The license, such as mit.")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision", metavar="BRANCH", help="The branch; default: the main one.")
@click.option("--overwrite", is_flag=True, help="Replace files with other content without asking.")
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    repo: str,
    sae_id: str | None,
    license: str | None,
    private: bool,
    revision: str | None,
    overwrite: bool,
) -> None:
    """Publish an SAE or a cache on the Hugging Face hub, in one commit, with a card.

    SAE_OR_RUN is the directory of a run or an SAE (in any format that can be read), the file of an
    SAE, RELEASE:SAE_ID of the catalogue or the hub, or a directory that `saecore cache` or `saecore
    tokenize` has written. Log in first with `hf auth login`, or set HF_TOKEN.
    """
    from saecore.errors import ConflictError
    from saecore.releases.publish import upload_saes_to_huggingface
    from saecore.releases.publish_cache import cache_type, upload_cache

    directory = Path(name).expanduser()
    cache = cache_type(directory)
    if cache is not None and sae_id is not None:
        raise click.UsageError("--id is for SAEs; a cache fills a whole repository")

    def push(overwrite: bool) -> Published:
        if cache is not None:
            return upload_cache(
                directory,
                repo,
                private=private,
                overwrite=overwrite,
                revision=revision,
                license=license,
            )
        return upload_saes_to_huggingface(
            [name] if sae_id is None else {sae_id: name},
            repo,
            private=private,
            overwrite=overwrite,
            revision=revision,
            license=license,
        )

    try:
        done = push(overwrite)
    except ConflictError as conflict:
        if not interactive():
            raise
        click.echo(f"{repo} has other content under: {', '.join(conflict.names)}", err=True)
        click.confirm("Replace it?", abort=True, err=True)
        done = push(True)
    _report(ctx, done, directory if cache is not None else None)


def _settings(cache: Path, repository: str) -> dict[str, Any]:
    """Settings with which a run of any experiment on the same model reads a published cache."""
    from saecore.releases.publish_cache import dataset_keys

    keys = dataset_keys(cache, repository)
    settings = {f"dataset.{key}": value for key, value in keys.items()}
    return settings | (unused_buffer() if keys["type"] == "cached" else {})


def _report(ctx: click.Context, done: Published, cache: Path | None) -> None:
    """Print what was published and how to load it."""
    if done.files:
        click.echo(f"{done.repository}: {len(done.files)} files in commit {done.commit[:12]}")
    else:
        click.echo(f"{done.repository}: already up to date, commit {done.commit[:12]}")
    click.echo(f"  {done.url}")
    for note in done.notes:
        click.echo(f"  note: {note}")
    if cache is not None:
        settings = set_words(_settings(cache, done.repository))
        click.echo(f"train on it: {command_line(ctx, 'run', 'FILE', *settings)}")
    for file in done.files:
        if file.endswith("/cfg.json"):
            call = f"SAE.from_pretrained({done.repository!r}, {file.removesuffix('/cfg.json')!r})"
            click.echo(f"load it:     sae, cfg_dict, sparsity = {call}")


def interactive() -> bool:
    """Whether a user can be asked."""
    return sys.stdin.isatty()
