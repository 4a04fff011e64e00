"""`saecore evaluate SAE_OR_RUN`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saecore.cli._options import (
    dataset_option,
    json_option,
    model_option,
    set_option,
    trust_remote_code_option,
)

if TYPE_CHECKING:
    from saecore.evaluation.evaluate import Evaluation


WIDTH = 120
"""Width of the table if the output is not a terminal."""


@click.command("evaluate")
@click.argument("sae", metavar="SAE_OR_RUN")
@model_option
@dataset_option
@click.option(
    "--evaluators",
    metavar="NAME,…",
    help="Evaluators to run (`saecore plugins` lists them); default: those without required "
    "settings, and the run's.",
)
@set_option("model.*, dataset.*, evaluation.tokens or EVALUATOR.*")
@json_option("in SAEBench's format")
@click.option("--mlflow", is_flag=True, help="Log the metrics to MLflow, in the run's own store.")
@trust_remote_code_option
def command(
    sae: str,
    model: str | None,
    dataset: str | None,
    evaluators: str | None,
    settings: tuple[str, ...],
    as_json: bool,
    mlflow: bool,
    trust_remote_code: bool,
) -> None:
    """Measure an SAE on held-out text, with 95 % confidence intervals over contexts.

    SAE_OR_RUN is the directory of a run or of a checkpoint in it (RUN/checkpoints/step-…), whose
    experiment names the model and text; the directory or file of an SAE, whose metadata name them;
    or RELEASE:SAE_ID from the catalogue or the hub.
    """
    from saecore.evaluation.evaluate import evaluate
    from saecore.evaluation.saebench import results

    parts = evaluators.split(",") if evaluators else []
    names = [name.strip() for name in parts if name.strip()]
    evaluation = evaluate(
        sae,
        model=model,
        dataset=dataset,
        evaluators=names or None,
        settings=settings,
        trust_remote_code=trust_remote_code,
    )
    if mlflow:
        log(evaluation)
    if as_json:
        click.echo(json.dumps(results(evaluation), indent=1, allow_nan=False))
    else:
        show(evaluation)


def show(evaluation: Evaluation) -> None:
    """Print the metrics as a table."""
    from rich.console import Console
    from rich.table import Table

    cfg, data = evaluation.sae.cfg, evaluation.data
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(f"{evaluation.name}: {cfg.architecture}, d_in = {cfg.d_in}, d_sae = {cfg.d_sae}")
    if "contexts" in data:
        name = data["model"].get("name", "model")
        console.print(
            f"{name}, {data['contexts']:,} held-out contexts of {data['context_size']} tokens"
        )
    table = Table(box=None, pad_edge=False)
    for column, justify in (("", "left"), ("figure", "left"), ("value", "right"),
                            ("95 % interval", "left"), ("tokens", "right")):  # fmt: skip
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name, metrics in evaluation.measured.figures.items():
        title = name
        for key, metric in metrics.items():
            interval = "" if metric.interval is None else "{:.4g} … {:.4g}".format(*metric.interval)
            tokens = f"{metric.tokens:,}" if metric.tokens else "-"
            table.add_row(title, key, f"{metric.value:.4f}", interval, tokens)
            title = ""
        vectors = evaluation.measured.vectors.get(name, {})
        if vectors:
            table.add_row(title, f"({len(vectors)} per latent or label: --json)", "", "", "")
    if table.row_count:
        console.print(table)
    for name, reason in evaluation.measured.skipped.items():
        console.print(f"{name} skipped: {reason}")


def log(evaluation: Evaluation) -> None:
    """Log the metrics to MLflow, in the run's own store or in runs/mlflow.db."""
    from saecore.config.messages import flatten
    from saecore.core.logger import RunInfo
    from saecore.plugins.structure import structure_choice
    from saecore.runs.training_run import flat
    from saecore.storage.run_directory import RunDirectory

    loggers: Sequence[dict[str, object]] = ()
    steps, name = 1, "evaluate"
    directory = Path("runs") / name / time.strftime("%Y%m%d-%H%M%S")
    if evaluation.run is not None:
        tables = RunDirectory(evaluation.run).read_record()["experiment"]
        loggers = [table for table in tables.get("logger", ()) if table["type"] == "mlflow"]
        training = tables["training"]
        steps = training["tokens"] // training["batch_size"]
        directory, name = evaluation.run, tables["name"]
    table = loggers[0] if loggers else {"type": "mlflow"}
    logger = structure_choice("logger", table).build(directory)
    parameters = {"sae": evaluation.name, **dict(flatten(dict(evaluation.settings)))}
    logger.start(
        RunInfo(
            name=name,
            id=directory.name,
            directory=directory,
            parameters=parameters,
            steps=steps,
            batch_size=1,
            resumed_at=steps,
        )
    )
    logger.scalars(steps, flat(evaluation.measured.tables()))
    logger.close()
