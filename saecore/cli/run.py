"""`saecore run FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from saecore.runner import RunResult


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
def command(file: Path, settings: tuple[str, ...], trust_remote_code: bool) -> None:
    """Train an SAE as FILE says, evaluate it on held-out text and save it.

    FILE is a TOML experiment file, or the experiment.json of a run to repeat.
    """
    from saecore.config import load_experiment
    from saecore.config.explain import chosen
    from saecore.plugins import current_host

    host = current_host()
    experiment, layers = load_experiment(file, settings, host)
    foreign = sorted(
        {
            f"{one.distribution} {one.version}"
            for one in (host.provider(c.kind, c.name) for c in chosen(experiment))
            if one.distribution != "saecore"
        }
    )
    if foreign:
        click.echo(f"plugins from: {', '.join(foreign)}")
    t = experiment.training
    click.echo(
        f"{experiment.name}: {experiment.sae.plugin.name} on {experiment.model.plugin.name} "
        f"{', '.join(experiment.model.read_hooks)}, {t.steps} steps of {t.batch_size} tokens; "
        "reading model and text"
    )
    from saecore.runner import run

    _report(run(experiment, host, layers.source, trust_remote_code))


def _report(result: RunResult) -> None:
    """The summary of a run, with the next commands to type."""
    click.echo(f"\ntrained in {result.seconds:.0f} s; held-out figures:")
    for name, figures in result.evaluation.items():
        if not figures:
            continue
        tokens = next(iter(figures.values()))["tokens"]
        click.echo(f"  {name} ({tokens:,} tokens)")
        for key, figure in figures.items():
            click.echo(f"    {key:<30} {figure['value']:.4f}")
    directory = result.directory
    click.echo(
        f"\nthe SAE: {directory / 'sae'}\n"
        f'  load it:     python -c "from saecore import SAE; '
        f"print(SAE.load_from_disk('{directory / 'sae'}').cfg)\"\n"
        f"  compare:     saecore runs --output {directory.parent.parent}\n"
        f"  repeat:      saecore run {directory / 'experiment.json'}"
    )
    store = directory.parent.parent / "mlflow.db"
    if store.exists():
        click.echo(
            f"  look at it:  mlflow ui --backend-store-uri sqlite:///{store} "
            "--host 127.0.0.1 --workers 1"
        )
