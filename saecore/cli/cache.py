"""`saecore cache FILE`."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from saecore.cache.manifest import Precision
    from saecore.cache.writing import CacheWriter


@click.command("cache")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path),
    help="Directory of the cache; default: activations/<name of the experiment>.",
)
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
    help="A hook besides those of the file. Can be given several times.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Lay a value over the file."
)
@click.option("--estimate", is_flag=True, help="Say how much space and time it takes, and stop.")
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run the Python code that comes with the model, if it has any.",
)
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
    """Write the activations that a run of FILE would train on, in its order, in one pass.

    [model], [dataset], [buffer], training.tokens and evaluation.tokens of FILE say which. Train on
    them with dataset.type = "cached". Stopped or killed, the same command goes on where it was.
    """
    from saecore.config import load_experiment

    experiment, layers = load_experiment(file, settings)
    from saecore.cache.writing import prepare
    from saecore.signals import Interrupted, Signals
    from saecore.trust import remote_code

    directory = directory or Path("activations") / experiment.name
    try:
        with Signals(), remote_code(trust_remote_code):
            writer = prepare(experiment, directory, dtype, hooks, layers.source)
            _announce(writer)
            if not estimate:
                writer.write(_progress)
    except KeyboardInterrupt as stop:
        again = shlex.join(["saecore", *_words(ctx)])
        click.echo(f"{stop or 'stopped'}; whole shards are kept; go on with:\n  {again}", err=True)
        ctx.exit(128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT))
    if not estimate:
        click.echo(
            f"{directory}: whole\n  train on it: saecore run {file} "
            f"--set dataset.type=cached --set dataset.path={directory}\n"
            f"  check it:    saecore verify {directory}"
        )


def _words(ctx: click.Context) -> list[str]:
    """The command as it was given."""
    given = ctx.params
    words = ["cache", str(given["file"])]
    if given["directory"]:
        words += ["--to", str(given["directory"])]
    words += ["--dtype", given["dtype"]]
    words += [word for one in given["hooks"] for word in ("--hook", one)]
    words += [word for one in given["settings"] for word in ("--set", one)]
    return words + (["--trust-remote-code"] if given["trust_remote_code"] else [])


def _announce(writer: CacheWriter) -> None:
    """What will be written, and what that takes."""
    manifest, estimate = writer.manifest, writer.estimate()
    click.echo(
        f"{writer.directory}: {manifest.rows:,} tokens and {manifest.held_out_rows:,} held out, "
        f"{len(manifest.hooks)} hook(s) in {manifest.dtype}, {manifest.row_bytes():,} bytes a token"
    )
    if done := writer.done():
        click.echo(f"{done} of {writer.shards} shards are there")
    click.echo(
        f"to write: {estimate.bytes / 1e9:.3f} GB ({estimate.free / 1e9:.0f} GB free), about "
        f"{estimate.seconds / 60:.1f} minutes of the model"
    )


def _progress(done: int, shards: int) -> None:
    click.echo(f"shard {done}/{shards}")
