"""`saecore tokenize FILE`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("tokenize")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path),
    help="Directory of the tokens; default: tokens/<name of the experiment>.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Lay a value over the file."
)
def command(file: Path, directory: Path | None, settings: tuple[str, ...]) -> None:
    """Write the contexts of tokens of FILE's text, to keep, to share, and to train on.

    [model] of FILE gives the tokenizer, [dataset] the text and how it becomes contexts. Train on
    them with dataset.type = "tokens". Stopped or killed, the same command goes on where it was.
    """
    from saecore.config import load_experiment

    experiment, layers = load_experiment(file, settings)
    from saecore.cache.tokens import write_tokens

    directory = directory or Path("tokens") / experiment.name
    size = experiment.dataset.context_size
    manifest = write_tokens(
        experiment,
        directory,
        layers.source,
        lambda done, shards: click.echo(f"shard {done}/{shards}"),
    )
    train, held_out = (manifest.rows[side] * size for side in ("train", "held_out"))
    click.echo(
        f"{directory}: {train:,} tokens and {held_out:,} held out, contexts of {size}\n"
        f"  train on it: saecore run {file} "
        f"--set dataset.type=tokens --set dataset.path={directory}"
    )
