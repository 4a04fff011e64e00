"""`saecore verify RUN`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify")
@click.argument("run", type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, run: Path) -> None:
    """Check every file of the run in directory RUN; the exit code is 1 if one is damaged.

    Checkpoints are compared with their manifests, metrics.jsonl is parsed, the saved SAE is loaded.
    """
    from saecore.runs.verify import verify

    damaged = 0
    for finding in verify(run):
        if finding.damage is not None:
            damaged += 1
            click.echo(f"DAMAGED  {finding.path}: {finding.damage}")
        else:
            click.echo(f"ok  {finding.path}: {finding.note}")
    ctx.exit(1 if damaged else 0)
