"""`saecore tokenize FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from saecore.cli._options import directory_option, experiment_argument, set_option
from saecore.cli._printed import command_line, set_words
from saecore.errors import labeled_errors

if TYPE_CHECKING:
    from saecore.config.experiment import DatasetTable


@click.command("tokenize")
@experiment_argument
@directory_option("tokens")
@set_option()
@click.pass_context
def command(
    ctx: click.Context, file: Path, directory: Path | None, settings: tuple[str, ...]
) -> None:
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
    changes = set_words(_changes(experiment.dataset, directory))
    run = command_line(ctx, "run", file, *set_words(settings), *changes)
    click.echo(
        f"{directory}: {train:,} tokens and {held_out:,} held out, contexts of {size}\n"
        f"  train on it: {run}"
    )


def _changes(table: DatasetTable, directory: Path) -> dict[str, Any]:
    """Settings with which a run reads the tokens: another type drops the keys of [dataset]."""
    changes: dict[str, Any] = {"dataset.type": "tokens", "dataset.path": str(directory)}
    for field in attrs.fields(type(table)):
        if "inline" not in field.metadata and getattr(table, field.name) != field.default:
            changes[f"dataset.{field.name}"] = getattr(table, field.name)
    return changes
