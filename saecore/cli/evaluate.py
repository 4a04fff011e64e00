"""`saecore evaluate SAE_OR_RUN`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from saecore.evaluating import Evaluation


WIDTH = 120
"""Columns of the table where no terminal says how many there are."""


@click.command("evaluate")
@click.argument("given", metavar="SAE_OR_RUN")
@click.option(
    "--model",
    metavar="MODEL",
    help="Name or path of the language model; default: the SAE's own.",
)
@click.option(
    "--dataset",
    metavar="DATASET",
    help="Name or path of the text; default: what the SAE was trained on, held out.",
)
@click.option(
    "--evaluators",
    metavar="NAME,…",
    help="Which (`saecore plugins` lists them); default: those that need no settings, and the "
    "run's.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting: model.*, dataset.*, evaluation.tokens, or EVALUATOR.*. Can be given "
    "several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, in SAEBench's form.")
@click.option("--mlflow", is_flag=True, help="Log the figures to MLflow, in the run's own store.")
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run the Python code that comes with the model, if it has any.",
)
def command(
    given: str,
    model: str | None,
    dataset: str | None,
    evaluators: str | None,
    settings: tuple[str, ...],
    as_json: bool,
    mlflow: bool,
    trust_remote_code: bool,
) -> None:
    """Measure an SAE on held-out text, with 95 % confidence intervals over contexts.

    SAE_OR_RUN is the directory of a run, whose experiment says the model and the text; the
    directory or file of an SAE, whose metadata say them; or RELEASE:SAE_ID of the catalogue or the
    hub.
    """
    from saecore.evaluating import evaluate
    from saecore.saebench import results

    names = [one.strip() for one in evaluators.split(",") if one.strip()] if evaluators else None
    done = evaluate(
        given,
        model=model,
        dataset=dataset,
        evaluators=names,
        settings=settings,
        trust_remote_code=trust_remote_code,
    )
    if mlflow:
        log(done)
    if as_json:
        click.echo(json.dumps(results(done), indent=1, allow_nan=False))
    else:
        show(done)


def show(done: Evaluation) -> None:
    """The figures as a table."""
    from rich.console import Console
    from rich.table import Table

    cfg, data = done.sae.cfg, done.data
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(f"{done.name}: {cfg.architecture}, d_in = {cfg.d_in}, d_sae = {cfg.d_sae}")
    if "contexts" in data:
        name = data["model"].get("name", "model")
        console.print(
            f"{name}, {data['contexts']:,} held-out contexts of {data['context_size']} tokens"
        )
    table = Table(box=None, pad_edge=False)
    for column, justify in (("", "left"), ("figure", "left"), ("value", "right"),
                            ("95 % interval", "left"), ("tokens", "right")):  # fmt: skip
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name, figures in done.measured.figures.items():
        title = name
        for key, one in figures.items():
            low_high = "" if one.interval is None else "{:.4g} … {:.4g}".format(*one.interval)
            tokens = f"{one.tokens:,}" if one.tokens else "-"
            table.add_row(title, key, f"{one.value:.4f}", low_high, tokens)
            title = ""
        vectors = done.measured.vectors.get(name, {})
        if vectors:
            table.add_row(title, f"({len(vectors)} per latent or label: --json)", "", "", "")
    if table.row_count:
        console.print(table)
    for name, reason in done.measured.skipped.items():
        console.print(f"{name} skipped: {reason}")


def log(done: Evaluation) -> None:
    """Send the figures to MLflow: to the run's own store, or to runs/mlflow.db."""
    from saecore.config.explain import flatten
    from saecore.config.structure import structure_choice
    from saecore.plugins import current_host
    from saecore.resume import read_record
    from saecore.session import flat
    from saecore.tracking import RunInfo

    chosen: Sequence[dict[str, object]] = ()
    steps, name = 1, "evaluate"
    directory = Path("runs") / name / time.strftime("%Y%m%d-%H%M%S")
    if done.run is not None:
        tables = read_record(done.run)["experiment"]
        chosen = [one for one in tables.get("logger", ()) if one["type"] == "mlflow"]
        training = tables["training"]
        steps = training["tokens"] // training["batch_size"]
        directory, name = done.run, tables["name"]
    table = chosen[0] if chosen else {"type": "mlflow"}
    logger = structure_choice("logger", table, current_host()).build(directory)
    parameters = {"sae": done.name, **dict(flatten(dict(done.settings)))}
    logger.start(RunInfo(name, directory.name, directory, parameters, steps, 1, steps))
    logger.scalars(steps, flat(done.measured.tables()))
    logger.close()
