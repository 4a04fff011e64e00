"""`saecore cache FILE`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saecore.cli._options import (
    directory_option,
    experiment_argument,
    set_option,
    trust_remote_code_option,
)
from saecore.cli._printed import command_line, set_words, trust_words, unused_buffer
from saecore.errors import labeled_errors

if TYPE_CHECKING:
    from saecore.activations.cache.manifest import Precision
    from saecore.activations.cache.writer import CacheWriter
    from saecore.config.experiment import Experiment


@click.command("cache")
@experiment_argument
@directory_option("activations")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="Precision on disk; int8 has a scale for every row.",
)
@click.option(
    "--hook",
    "hooks",
    multiple=True,
    metavar="HOOK",
    help="A hook in addition to those of the file; may be repeated.",
)
@set_option()
@click.option("--estimate", is_flag=True, help="Print the space and time needed, and stop.")
@trust_remote_code_option
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    directory: Path | None,
    dtype: Precision,
    hooks: tuple[str, ...],
    settings: tuple[str, ...],
    estimate: bool,
    trust_remote_code: bool,
) -> None:
    """Write the activations that a run of FILE would train on, in the same order, in one pass.

    [model], [dataset], [buffer], training.tokens and evaluation.tokens of FILE decide which. Train
    on them with dataset.type = "cached". After an interruption, rerun the command: it resumes.
    """
    from saecore.config.load import load_experiment

    experiment, layers = load_experiment(file, settings)
    from saecore.activations.cache.writer import prepare
    from saecore.runs.signals import Interrupted, Signals
    from saecore.storage.remote_code import remote_code

    directory = directory or Path("activations") / experiment.name
    try:
        with Signals(), remote_code(trust_remote_code), labeled_errors(layers.label):
            writer = prepare(experiment, directory, dtype, hooks)
            _announce(writer)
            if not estimate:
                writer.write(_progress)
    except KeyboardInterrupt as stop:
        again = command_line(ctx, *_words(ctx))
        click.echo(
            f"{stop or 'stopped'}; complete shards are kept; resume with:\n  {again}", err=True
        )
        ctx.exit(128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT))
    if not estimate:
        train = command_line(
            ctx, "run", file, *set_words(settings), *set_words(_changes(experiment, directory)),
            *trust_words(ctx),
        )  # fmt: skip
        click.echo(
            f"{directory}: complete\n  train on it: {train}\n"
            f"  check it:    {command_line(ctx, 'verify', directory)}"
        )


def _changes(experiment: Experiment, directory: Path) -> dict[str, Any]:
    """Settings with which a run of the experiment reads the cache.

    The activations are mixed already, and the model does not run in training.
    """
    changes: dict[str, Any] = {"dataset.type": "cached", "dataset.path": str(directory)}
    if experiment.buffer != type(experiment.buffer)():
        changes |= unused_buffer()
    if experiment.training.loss != "mse":
        changes["training.loss"] = "mse"
    return changes


def _words(ctx: click.Context) -> list[str]:
    """The arguments of this command, to rerun it."""
    options = ctx.params
    words = ["cache", str(options["file"])]
    if options["directory"]:
        words += ["--to", str(options["directory"])]
    words += ["--dtype", options["dtype"]]
    words += [word for hook in options["hooks"] for word in ("--hook", hook)]
    return [*words, *set_words(options["settings"]), *trust_words(ctx)]


def _announce(writer: CacheWriter) -> None:
    """Print what will be written, and its cost."""
    manifest, estimate = writer.manifest, writer.estimate()
    click.echo(
        f"{writer.directory}: {manifest.rows:,} tokens and {manifest.held_out_rows:,} held out, "
        f"{len(manifest.hooks)} hook(s) in {manifest.dtype}, "
        f"{manifest.row_bytes():,} bytes per token"
    )
    if done := writer.done():
        click.echo(f"{done} of {writer.shards} shards are already written")
    click.echo(
        f"to write: {estimate.bytes / 1e9:.3f} GB ({estimate.free / 1e9:.0f} GB free), about "
        f"{estimate.seconds / 60:.1f} minutes of model time"
    )


def _progress(done: int, shards: int) -> None:
    click.echo(f"shard {done}/{shards}")
