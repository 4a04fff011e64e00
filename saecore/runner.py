"""From an experiment to a trained SAE on disk: the one file that wires the rooms together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from saecore.assembly import (
    make_sae,
    make_trainer,
    make_window,
    pick_device,
    read_tokens,
    sizes,
)
from saecore.backend import ModelBackend
from saecore.checkpoint import save
from saecore.config.experiment import Experiment
from saecore.config.explain import chosen, flatten, to_tables
from saecore.data.tokens import TokenRows
from saecore.errors import NumericsError
from saecore.evaluation import evaluate
from saecore.files import explained, write_json
from saecore.monitors import Monitors
from saecore.plugins import Host, current_host, versions
from saecore.publishing import published
from saecore.sae import SAE
from saecore.sae_config import DTYPES
from saecore.tracking import Loggers, MetricsFile, RunInfo
from saecore.trainer import Trainer


@attrs.frozen
class RunResult:
    """What a run leaves."""

    directory: Path
    """The run's directory."""
    sae: SAE
    """The trained SAE in its published form."""
    evaluation: Mapping[str, Any]
    """Held-out figures, evaluator by evaluator."""
    metrics: Mapping[str, float]
    """The last line of metrics."""
    seconds: float
    """Wall time of training."""


def run(experiment: Experiment, host: Host | None = None, source: str = "experiment") -> RunResult:
    """Train, evaluate and save.

    Args:
        experiment: what to do.
        host: the plugins to use; default: all that are installed.
        source: where the experiment comes from, for error messages.

    Raises:
        SaecoreError: the experiment cannot be run; nothing that was there before is changed.
    """
    host = host or current_host()
    parent = _writable(Path(experiment.output) / experiment.name)
    device = pick_device(experiment.model.device, source)
    backend: ModelBackend = experiment.model.plugin.build(device, DTYPES[experiment.model.dtype])
    d_in, d_out = sizes(experiment, backend, source)
    rows = read_tokens(experiment, backend, source)
    window = make_window(experiment, backend, rows)
    sae = make_sae(experiment, backend, d_in, d_out, device, source)
    trainer = make_trainer(experiment, sae, window)

    info = _start(experiment, parent, backend, rows, host)
    loggers = _loggers(experiment, info, host)
    metrics = MetricsFile(info.directory / "metrics.jsonl")
    try:
        loggers.call("start", info)
        return _train(experiment, trainer, backend, rows, info, loggers, metrics)
    finally:
        metrics.close()
        loggers.call("close")


def _train(
    experiment: Experiment,
    trainer: Trainer,
    backend: ModelBackend,
    rows: TokenRows,
    info: RunInfo,
    loggers: Loggers,
    metrics: MetricsFile,
) -> RunResult:
    training, table = experiment.training, experiment.evaluation
    evaluators = {one.name: one.build() for one in experiment.evaluator} if table.tokens else {}
    contexts = max(1, table.tokens // experiment.dataset.context_size)
    held_out = torch.from_numpy(rows.held_out[:contexts].astype("int64"))

    def figures_of(sae: SAE) -> dict[str, dict[str, Any]]:
        return evaluate(sae, backend, held_out, evaluators)

    def log(values: dict[str, float]) -> None:
        metrics.write(trainer.completed, trainer.tokens, values)
        loggers.call("scalars", trainer.completed, values)

    monitors = Monitors(experiment.monitor)
    trainer.prepare()
    began = last = time.monotonic()
    logged = trainer.completed
    evaluated = 0
    values: dict[str, float] = {}
    paused = 0.0
    while trainer.completed < training.steps:
        trainer.step()
        final = trainer.completed == training.steps
        if trainer.completed % training.log_every_steps == 0 or final:
            now = time.monotonic()
            values = trainer.read_metrics()
            tokens = (trainer.completed - logged) * training.batch_size
            values["performance/tokens_per_second"] = tokens / max(1e-9, now - last)
            last, logged = now, trainer.completed
            log(values)
            monitors(trainer, values)
        checkpoint = training.checkpoint
        if checkpoint.every_steps and (trainer.completed % checkpoint.every_steps == 0 or final):
            save(
                info.directory / "checkpoints",
                trainer.completed,
                trainer.state_dict(),
                checkpoint.keep,
            )
        every = table.every_tokens
        if every and not final and evaluators and trainer.tokens // every > evaluated:
            evaluated = trainer.tokens // every
            start = time.monotonic()
            log(_flat(figures_of(published(experiment, trainer, values, rows, backend))))
            last += time.monotonic() - start
            paused += time.monotonic() - start
    seconds = time.monotonic() - began - paused

    sae = published(experiment, trainer, values, rows, backend)
    _check_finite(sae)
    sae.save_model(info.directory / "sae", trainer.latents.sparsity())
    evaluation = figures_of(sae)
    log(_flat(evaluation))
    summary = {
        "tokens": trainer.tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(trainer.tokens / max(1e-9, seconds), 1),
    }
    write_json(info.directory / "evaluation.json", {"training": summary, "figures": evaluation})
    for name in ("sae", "experiment.json", "evaluation.json"):
        loggers.call("artifact", info.directory / name)
    return RunResult(info.directory, sae, evaluation, values, seconds)


def _writable(directory: Path) -> Path:
    """Make the directory of the runs of this name, before anything slow happens."""
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    return directory


def _start(
    experiment: Experiment, parent: Path, backend: ModelBackend, rows: TokenRows, host: Host
) -> RunInfo:
    """Make the run's directory and experiment.json."""
    tables = to_tables(experiment)
    with explained(parent):
        while True:
            run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
            directory = parent / run_id
            try:
                directory.mkdir()
                break
            except FileExistsError:
                continue
    record = {
        "experiment": tables,
        "model": dict(backend.identity),
        "corpus": rows.corpus,
        "tokens_key": rows.key,
        "torch": torch.__version__,
        "plugins": versions(host.provider(one.kind, one.name) for one in chosen(experiment)),
    }
    write_json(directory / "experiment.json", record)
    t = experiment.training
    return RunInfo(experiment.name, run_id, directory, dict(flatten(tables)), t.steps, t.batch_size)


def _loggers(experiment: Experiment, info: RunInfo, host: Host) -> Loggers:
    from saecore.config.structure import structure_choice

    listed = list(experiment.logger)
    if all(one.name != "console" for one in listed) and "console" in host.names("logger"):
        listed.append(structure_choice("logger", "console", host))
    return Loggers([(one.name, one.build(info.directory)) for one in listed])


def _check_finite(sae: SAE) -> None:
    for name, tensor in sae.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise NumericsError(
                f"{name} has values that are not finite after training; nothing was saved. "
                "Lower training.lr or check the activations"
            )


def _flat(evaluation: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {
        f"evaluation/{name}": float(figure["value"])
        for figures in evaluation.values()
        for name, figure in figures.items()
    }
