"""`saecore run FILE`."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saecore.cli._options import experiment_argument, set_option, trust_remote_code_option
from saecore.errors import SaecoreError, labeled_errors
from saecore.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from saecore.config.experiment import Experiment
    from saecore.config.load import LoadedExperiment
    from saecore.config.sweep import Sweep
    from saecore.runs.training_run import RunResult

NEWEST = ""
"""Value of --resume without an argument: the newest unfinished run."""


@click.command("run")
@experiment_argument
@set_option()
@trust_remote_code_option
@click.option(
    "--resume",
    is_flag=False,
    flag_value=NEWEST,
    metavar="[RUN]",
    help="Resume a run that was stopped: RUN is its directory or id; default: the newest "
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
    """Train the SAE that FILE describes, evaluate it on held-out text and save it.

    FILE is a TOML experiment file, or the experiment.json of a run to repeat. If it describes a
    sweep, every point is trained, as many at once as share the model's forward pass; the same
    command resumes the unfinished ones, and the exit code is 1 if a point failed. SIGINT (Ctrl-C)
    and SIGTERM finish the step, save, and exit with 130 or 143; a second signal stops at once.
    """
    from saecore.config.load import LoadedExperiment, load

    loaded = load(file, settings)
    if isinstance(loaded, LoadedExperiment):
        _run(ctx, loaded, trust_remote_code, resume)
        return
    if resume is not None:
        raise SaecoreError("--resume: a sweep always resumes unfinished points; leave it out")
    _sweep(ctx, loaded, trust_remote_code)


def _run(
    ctx: click.Context, loaded: LoadedExperiment, trust_remote_code: bool, resume: str | None
) -> None:
    """Run one experiment; print its summary and the next commands to type."""
    experiment = loaded.experiment
    _announce([experiment])
    t, model = experiment.training, experiment.model
    origin = (
        f"{model.backend.name} {', '.join(model.read_hooks)}"
        if model
        else f"{experiment.dataset.loader.name} activations"
    )
    click.echo(
        f"{experiment.name}: {experiment.sae.architecture.name} on {origin}, "
        f"{t.steps} steps of {t.batch_size} tokens" + ("; reading model and text" if model else "")
    )
    try:
        from saecore.runs.run import run

        with labeled_errors(loaded.layers.label):
            result = run(experiment, trust_remote_code, resume=True if resume == NEWEST else resume)
    except KeyboardInterrupt as stop:
        click.echo(_stopped(stop, ctx), err=True)
        ctx.exit(128 + getattr(stop, "number", signal.SIGINT))
    if result.before:
        click.echo(f"{result.directory} is finished; nothing to resume")
    _report(result)


def _announce(experiments: Sequence[Experiment]) -> None:
    """Name the other distributions whose plugins the experiments use."""
    from saecore.config.messages import chosen
    from saecore.plugins.host import current_host

    host = current_host()
    providers = (host.provider(c.kind, c.name) for e in experiments for c in chosen(e))
    others = {f"{p.distribution} {p.version}" for p in providers if p.distribution != "saecore"}
    if others:
        click.echo(f"plugins from: {', '.join(sorted(others))}")


def _sweep(ctx: click.Context, sweep: Sweep, trust_remote_code: bool) -> None:
    """Run a sweep; print its summary and the next commands to type."""
    from saecore.sweeps.run import run_sweep

    _announce([point.experiment for point in sweep.points])
    click.echo(f"{sweep.name}: {len(sweep.points)} points; reading model and text")
    try:
        result = run_sweep(sweep, trust_remote_code=trust_remote_code)
    except KeyboardInterrupt as stop:
        click.echo(f"{stop}; everything is saved, the same command resumes", err=True)
        ctx.exit(128 + getattr(stop, "number", signal.SIGINT))
    click.echo(f"\n{len(result.finished)} of {len(sweep.points)} points are finished")
    for name, error in result.failed.items():
        click.echo(f"  failed: {name}: {error}", err=True)
    if result.report is not None:
        click.echo(f"  the report:  {result.report}")
    click.echo(f"  compare:     saecore compare {result.directory}")
    _mlflow(result.directory.parent / "mlflow.db")
    ctx.exit(1 if result.failed else 0)


def _stopped(stop: KeyboardInterrupt, ctx: click.Context) -> str:
    """Say what was saved, and give the command that resumes."""
    from saecore.runs.signals import Interrupted

    if not isinstance(stop, Interrupted) or stop.directory is None:
        return "stopped before the first step; nothing to resume"
    options, words = ctx.params, ["saecore"]
    if ctx.parent is not None:
        words += [word for name in ctx.parent.params["block"] for word in ("--block", name)]
        words += [word for path in ctx.parent.params["files"] for word in ("--plugin", str(path))]
    words += ["run", str(options["file"])]
    words += [word for setting in options["settings"] for word in ("--set", setting)]
    words += ["--trust-remote-code"] if options["trust_remote_code"] else []
    words += ["--resume", str(stop.directory)]
    saved = "no checkpoint yet" if stop.step is None else f"saved at step {stop.step}"
    return f"{stop}; {saved}; resume with:\n  {shlex.join(words)}"


def _report(result: RunResult) -> None:
    """Print the summary of a run and the next commands to type."""
    click.echo(f"\ntrained in {result.seconds:.0f} s; held-out figures:")
    for name, metrics in result.evaluation.items():
        if not metrics:
            continue
        tokens = next(iter(metrics.values()))["tokens"]
        click.echo(f"  {name} ({tokens:,} tokens)")
        for key, metric in metrics.items():
            value = "not finite" if metric["value"] is None else f"{metric['value']:.4f}"
            click.echo(f"    {key:<30} {value}")
    directory, output = RunDirectory(result.directory), result.directory.parent.parent
    click.echo(
        f"\nthe SAE: {directory.sae_directory}\n"
        f'  load it:     python -c "from saecore import SAE; '
        f"print(SAE.load_from_disk('{directory.sae_directory}').cfg)\"\n"
        f"  compare:     saecore runs --output {output}\n"
        f"  repeat:      saecore run {directory.record_file}"
    )
    _mlflow(output / "mlflow.db")


def _mlflow(store: Path) -> None:
    if store.exists():
        click.echo(
            f"  look at it:  mlflow ui --backend-store-uri sqlite:///{store} "
            "--host 127.0.0.1 --workers 1"
        )
