"""`saecore verify RUN`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify")
@click.argument("run", type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, run: Path) -> None:
    """Check every file of the run in directory RUN, one line each; exit code 1 if one is damaged.

    Checkpoints are compared with their manifests, metrics.jsonl is parsed, the saved SAE is loaded.
    """
    from saecore.verify import verify

    damaged = 0
    for one in verify(run):
        damaged += one.damage is not None
        state = (
            f"DAMAGED  {one.path}: {one.damage}" if one.damage else f"ok  {one.path}: {one.note}"
        )
        click.echo(state)
    ctx.exit(1 if damaged else 0)
