"""From an experiment to a trained SAE on disk: the one file that wires the rooms together."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import torch

from saecore import __version__
from saecore.assembly import make_sae, make_trainer
from saecore.checkpoint import checkpoints, step_of
from saecore.config.experiment import Experiment
from saecore.config.explain import chosen, flatten, to_tables
from saecore.errors import CheckpointError
from saecore.evaluation import Measured, measure
from saecore.feed import Feed, make_feed
from saecore.files import explained, sync, write_json
from saecore.lock import locked
from saecore.plugins import Host, current_host, versions
from saecore.publishing import published
from saecore.resume import (
    RECORD,
    RESULT,
    Saved,
    check_growth,
    check_same,
    check_same_data,
    find,
    fingerprint,
    newest,
    read_record,
    recorded,
)
from saecore.sae import SAE
from saecore.signals import Interrupted, Signals
from saecore.tracking import Loggers, MetricsFile, RunInfo
from saecore.trainer import Trainer
from saecore.training import Training, check_finite
from saecore.trust import remote_code


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
    before: bool = False
    """Whether it was finished before: a resume that had nothing to do."""


def run(
    experiment: Experiment,
    host: Host | None = None,
    source: str = "experiment",
    trust_remote_code: bool = False,
    *,
    resume: Literal[True] | str | Path | None = None,
) -> RunResult:
    """Train, evaluate and save.

    Args:
        experiment: what to do.
        host: the plugins to use; default: all that are installed.
        source: where the experiment comes from, for error messages.
        trust_remote_code: let Python code that comes with the model run.
        resume: go on with a run that was stopped: True for the newest unfinished one of the
            experiment's name (a new one where there is none), or a run's directory or id.

    Raises:
        SaecoreError: the experiment cannot be run; nothing that was there before is changed.
        Interrupted: SIGINT or SIGTERM came; the run can be resumed.
    """
    host = host or current_host()
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        parent = _writable(Path(experiment.output) / experiment.name)
        directory = find(experiment, resume) if resume else None
        old = experiment
        if resume and directory is None:
            print(f"no run of {parent} to resume; beginning one", flush=True)
        if directory is not None:
            stack.enter_context(locked(directory))
            old = recorded(read_record(directory), directory, host)
            check_same(old, experiment, directory)
            if (directory / RESULT).exists() and old.training.steps == experiment.training.steps:
                return _finished(directory)

        with remote_code(trust_remote_code):
            feed = make_feed(experiment, source)
        sae = make_sae(experiment, feed.d_in, feed.d_out, feed.device, source)
        trainer = make_trainer(experiment, sae, feed.source, source, feed.backend)

        record = {
            "experiment": to_tables(experiment),
            **feed.record,
            "torch": torch.__version__,
            "device": str(feed.device),
            "plugins": versions(host.provider(one.kind, one.name) for one in chosen(experiment)),
        }
        saved: Saved | None = None
        if directory is None:
            directory = _create(parent)
            stack.enter_context(locked(directory))
        else:
            for line in check_same_data(read_record(directory), record, directory):
                print(f"warning: {line}: bits may differ from here on", file=sys.stderr)
            saved = newest(directory, fingerprint(experiment))
            if saved is not None:
                trainer.load_state_dict(saved.state)
                check_growth(trainer, old, experiment, directory)
            (directory / RESULT).unlink(missing_ok=True)
        write_json(directory / RECORD, record)
        try:
            return _train(experiment, trainer, feed, host, directory, record, saved, signals)
        except Interrupted as stop:
            done = checkpoints(directory / "checkpoints")
            stop.directory, stop.step = directory, step_of(done[-1]) if done else None
            raise


def _train(
    experiment: Experiment,
    trainer: Trainer,
    feed: Feed,
    host: Host,
    directory: Path,
    record: Mapping[str, Any],
    saved: Saved | None,
    signals: Signals,
) -> RunResult:
    table = experiment.evaluation
    evaluators = {one.name: one.build() for one in experiment.evaluator} if table.tokens else {}

    def figures_of(sae: SAE) -> Measured:
        return measure(sae, feed.origin, feed.held_out, evaluators)

    def during(values: Mapping[str, float]) -> dict[str, float]:
        return flat(figures_of(published(experiment, trainer, values, feed)).tables())

    info = RunInfo(
        experiment.name,
        directory.name,
        directory,
        dict(flatten(to_tables(experiment))),
        experiment.training.steps,
        experiment.training.batch_size,
        trainer.completed,
    )
    metrics = MetricsFile(directory / "metrics.jsonl", saved.metrics_length if saved else 0)
    loggers = _loggers(experiment, info, host)
    manifest = {
        "experiment": fingerprint(experiment),
        "versions": {"saecore": __version__, "torch": torch.__version__, **record["plugins"]},
    }
    training = Training(
        experiment,
        trainer,
        directory,
        manifest,
        metrics,
        loggers,
        signals,
        during if evaluators else None,
    )
    try:
        loggers.call("start", info)
        if saved is None:
            trainer.prepare()
        else:
            training.restore(saved)
        with signals.deferred():
            training.run()

        sae = published(experiment, trainer, training.figures, feed)
        check_finite(sae, "after training")
        sae.save_model(directory / "sae", trainer.latents.sparsity())
        measured = figures_of(sae)
        evaluation = measured.tables()
        training.log(flat(evaluation))
        summary = {
            "tokens": trainer.tokens,
            "seconds": round(training.seconds, 3),
            "tokens_per_second": round(trainer.tokens / max(1e-9, training.seconds), 1),
        }
        for name, reason in measured.skipped.items():
            print(f"evaluator {name} skipped: {reason}", file=sys.stderr)
        write_json(directory / RESULT, {"training": summary, **measured.as_result()})
        for name in ("sae", RECORD, RESULT):
            loggers.call("artifact", directory / name)
        return RunResult(directory, sae, evaluation, training.figures, training.seconds)
    finally:
        metrics.close()
        loggers.call("close")


def _finished(directory: Path) -> RunResult:
    """The result of a run that had ended before."""
    try:
        result = json.loads((directory / RESULT).read_text(encoding="utf-8"))
        seconds, evaluation = float(result["training"]["seconds"]), result["figures"]
        lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        figures = [one for line in lines if "metrics/l0" in (one := json.loads(line))]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{directory}: it has ended, but its results cannot be read: {error}; "
            f"`saecore verify {directory}` says what is damaged"
        ) from error
    sae = SAE.load_from_disk(directory / "sae")
    return RunResult(directory, sae, evaluation, figures[-1] if figures else {}, seconds, True)


def _writable(directory: Path) -> Path:
    """Make the directory of the runs of this name, before anything slow happens."""
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    return directory


def _create(parent: Path) -> Path:
    """Make a new run's directory."""
    with explained(parent):
        while True:
            directory = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            sync(parent)
            return directory


def _loggers(experiment: Experiment, info: RunInfo, host: Host) -> Loggers:
    from saecore.config.structure import structure_choice

    listed = list(experiment.logger)
    if all(one.name != "console" for one in listed) and "console" in host.names("logger"):
        listed.append(structure_choice("logger", "console", host))
    return Loggers([(one.name, one.build(info.directory)) for one in listed])


def flat(evaluation: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Figures by the names under which they are logged."""
    return {
        f"evaluation/{name}": float(figure["value"])
        for figures in evaluation.values()
        for name, figure in figures.items()
    }
