"""`saecore run FILE`."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saecore.errors import SaecoreError

if TYPE_CHECKING:
    from saecore.config import Experiment
    from saecore.config.sweep import Sweep
    from saecore.plugins import Host
    from saecore.session import RunResult

NEWEST = ""
"""What --resume without a value stands for."""


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Lay a value over the file, such as --set sae.k=64. Can be given several times.",
)
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run the Python code that comes with the model, if it has any.",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value=NEWEST,
    metavar="[RUN]",
    help="Go on with a run that was stopped: RUN is its directory or id; without it, the newest "
    "unfinished run of the experiment's name.",
)
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    settings: tuple[str, ...],
    trust_remote_code: bool,
    resume: str | None,
) -> None:
    """Train an SAE as FILE says, evaluate it on held-out text and save it.

    FILE is a TOML experiment file, or the experiment.json of a run to repeat. If it describes a
    sweep, every point is trained, as many at once as share the model's forward; the same command
    goes on with what is not finished, and the exit code is 1 if a point failed. SIGINT (Ctrl-C)
    and SIGTERM finish the step, save, and exit with 130 or 143; a second one stops at once.
    """
    from saecore.config import load_experiment
    from saecore.config.sweep import load_sweep
    from saecore.plugins import current_host

    host = current_host()
    sweep = load_sweep(file, settings, host)
    if sweep is not None:
        if resume is not None:
            raise SaecoreError(
                "--resume: a sweep goes on with what is not finished by itself; leave it out"
            )
        _announce([one.experiment for one in sweep.points], host)
        _sweep(ctx, sweep, trust_remote_code)
        return
    experiment, layers = load_experiment(file, settings, host)
    _announce([experiment], host)
    t = experiment.training
    model = experiment.model
    origin = (
        f"{model.plugin.name} {', '.join(model.read_hooks)}"
        if model
        else f"{experiment.dataset.plugin.name} activations"
    )
    click.echo(
        f"{experiment.name}: {experiment.sae.plugin.name} on {origin}, "
        f"{t.steps} steps of {t.batch_size} tokens" + ("; reading model and text" if model else "")
    )
    try:
        from saecore.runner import run

        result = run(
            experiment,
            host,
            layers.source,
            trust_remote_code,
            resume=True if resume == NEWEST else resume,
        )
    except KeyboardInterrupt as stop:
        click.echo(_stopped(stop, ctx, file, settings), err=True)
        ctx.exit(128 + getattr(stop, "number", signal.SIGINT))
    if result.before:
        click.echo(f"{result.directory} is finished; nothing to resume")
    _report(result)


def _announce(experiments: Sequence[Experiment], host: Host) -> None:
    """Name the distributions, besides this one, whose code is going to run."""
    from saecore.config.explain import chosen

    foreign = sorted(
        {
            f"{one.distribution} {one.version}"
            for experiment in experiments
            for one in (host.provider(c.kind, c.name) for c in chosen(experiment))
            if one.distribution != "saecore"
        }
    )
    if foreign:
        click.echo(f"plugins from: {', '.join(foreign)}")


def _sweep(ctx: click.Context, sweep: Sweep, trust_remote_code: bool) -> None:
    """Train a sweep; its summary, and the next commands to type."""
    from saecore.sweep import run_sweep

    click.echo(f"{sweep.name}: {len(sweep.points)} points; reading model and text")
    try:
        result = run_sweep(sweep, trust_remote_code=trust_remote_code)
    except KeyboardInterrupt as stop:
        click.echo(f"{stop}; everything is saved, the same command goes on", err=True)
        ctx.exit(128 + getattr(stop, "number", signal.SIGINT))
    click.echo(f"\n{len(result.finished)} of {len(sweep.points)} points are finished")
    for name, error in result.failed.items():
        click.echo(f"  failed: {name}: {error}", err=True)
    if result.report is not None:
        click.echo(f"  the report:  {result.report}")
    click.echo(f"  compare:     saecore compare {result.directory}")
    _mlflow(result.directory.parent / "mlflow.db")
    ctx.exit(1 if result.failed else 0)


def _stopped(
    stop: KeyboardInterrupt, ctx: click.Context, file: Path, settings: tuple[str, ...]
) -> str:
    """What was saved, and the command that goes on."""
    from saecore.signals import Interrupted

    if not isinstance(stop, Interrupted) or stop.directory is None:
        return "stopped before the first step; nothing to resume"
    words = ["saecore"]
    if ctx.parent is not None:
        words += [word for one in ctx.parent.params["block"] for word in ("--block", one)]
        words += [word for one in ctx.parent.params["files"] for word in ("--plugin", str(one))]
    words += ["run", str(file), *(word for one in settings for word in ("--set", one))]
    words += ["--trust-remote-code"] if ctx.params["trust_remote_code"] else []
    words += ["--trust-remote-code"] if ctx.params["trust_remote_code"] else []
    words += ["--resume", str(stop.directory)]
    done = "no checkpoint yet" if stop.step is None else f"saved at step {stop.step}"
    return f"{stop}; {done}; go on with:\n  {shlex.join(words)}"


def _report(result: RunResult) -> None:
    """The summary of a run, with the next commands to type."""
    click.echo(f"\ntrained in {result.seconds:.0f} s; held-out figures:")
    for name, figures in result.evaluation.items():
        if not figures:
            continue
        tokens = next(iter(figures.values()))["tokens"]
        click.echo(f"  {name} ({tokens:,} tokens)")
        for key, figure in figures.items():
            value = "not finite" if figure["value"] is None else f"{figure['value']:.4f}"
            click.echo(f"    {key:<30} {value}")
    directory = result.directory
    click.echo(
        f"\nthe SAE: {directory / 'sae'}\n"
        f'  load it:     python -c "from saecore import SAE; '
        f"print(SAE.load_from_disk('{directory / 'sae'}').cfg)\"\n"
        f"  compare:     saecore runs --output {directory.parent.parent}\n"
        f"  repeat:      saecore run {directory / 'experiment.json'}"
    )
    _mlflow(directory.parent.parent / "mlflow.db")


def _mlflow(store: Path) -> None:
    if store.exists():
        click.echo(
            f"  look at it:  mlflow ui --backend-store-uri sqlite:///{store} "
            "--host 127.0.0.1 --workers 1"
        )
