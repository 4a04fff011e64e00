"""`saecore run FILE`."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saecore.cli._options import experiment_argument, set_option, trust_remote_code_option
from saecore.cli._printed import command_line, set_words, trust_words
from saecore.errors import SaecoreError, labeled_errors, warn
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
    _report(ctx, result, experiment)


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
        _hint("the report", str(result.report))
    _hint("compare", command_line(ctx, "compare", result.directory))
    for place in _figures([point.experiment for point in sweep.points], result.directory.parent):
        _hint("figures", place)
    ctx.exit(1 if result.failed else 0)


def _stopped(stop: KeyboardInterrupt, ctx: click.Context) -> str:
    """Say what was saved, and give the command that resumes."""
    from saecore.runs.signals import Interrupted

    if not isinstance(stop, Interrupted) or stop.directory is None:
        return "stopped before the first step; nothing to resume"
    again = command_line(
        ctx, "run", ctx.params["file"], *set_words(ctx.params["settings"]), *trust_words(ctx),
        "--resume", stop.directory,
    )  # fmt: skip
    saved = "no checkpoint yet" if stop.step is None else f"saved at step {stop.step}"
    return f"{stop}; {saved}; resume with:\n  {again}"


def _report(ctx: click.Context, result: RunResult, experiment: Experiment) -> None:
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
    sae = directory.sae_directory
    load = f"from saecore import SAE; print(SAE.load_from_disk({str(sae)!r}).cfg)"
    hints = {
        "load it": f'python -c "{load}"' if _plain(load) else shlex.join(["python", "-c", load]),
        "compare": command_line(ctx, "runs", "--output", output),
        "repeat": command_line(ctx, "run", directory.record_file, *trust_words(ctx)),
    }
    click.echo(f"\nthe SAE: {sae}")
    if experiment.model:  # activations without a model have no text to show
        _hint("look at it", command_line(ctx, "dashboard", directory.path))
    for place in _figures([experiment], output) or [str(directory.metrics_file)]:
        _hint("figures", place)
    for name, command in hints.items():
        _hint(name, command)


def _plain(text: str) -> bool:
    """Whether a text means itself between double quotes in a shell."""
    return not any(sign in text for sign in '"$`\\!')


def _figures(experiments: Sequence[Experiment], output: Path) -> list[str]:
    """What shows the figures that the trackers of some experiments have received."""
    configs: list[Any] = []
    places: list[str] = []
    for choice in (choice for experiment in experiments for choice in experiment.logger):
        if choice.config in configs or not hasattr(choice.config, "look_at"):
            continue
        configs.append(choice.config)
        try:
            place = choice.config.look_at(output)
        except Exception as error:  # third-party code; the run is finished
            warn(f"logger {choice.name}: {type(error).__name__}: {error}")
            continue
        if place is not None:
            places.append(place)
    return places


def _hint(name: str, text: str) -> None:
    click.echo(f"  {name + ':':<12} {text}")
