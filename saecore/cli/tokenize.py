"""`saecore tokenize FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from saecore.cli._options import directory_option, experiment_argument, set_option
from saecore.errors import labeled_errors


@click.command("tokenize")
@experiment_argument
@directory_option("tokens")
@set_option()
def command(file: Path, directory: Path | None, settings: tuple[str, ...]) -> None:
    """Tokenize FILE's text into contexts to keep, to share and to train on.

    [model] of FILE gives the tokenizer, [dataset] the text and how it becomes contexts. Train on
    them with dataset.type = "tokens". After an interruption, rerun the command: it resumes.
    """
    from saecore.config.load import load_experiment

    experiment, layers = load_experiment(file, settings)
    from saecore.activations.cache.tokens import write_tokens

    directory = directory or Path("tokens") / experiment.name
    size = experiment.dataset.context_size
    with labeled_errors(layers.label):
        manifest = write_tokens(
            experiment, directory, lambda done, shards: click.echo(f"shard {done}/{shards}")
        )
    train, held_out = (manifest.rows[side] * size for side in ("train", "held_out"))
    click.echo(
        f"{directory}: {train:,} tokens and {held_out:,} held out, contexts of {size}\n"
        f"  train on it: saecore run {file} "
        f"--set dataset.type=tokens --set dataset.path={directory}"
    )
