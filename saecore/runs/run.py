"""Run an experiment: train, evaluate and save an SAE."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Literal

from saecore.config.experiment import Experiment
from saecore.config.load import load_experiment
from saecore.core.sae import SAE
from saecore.errors import CheckpointError, labeled_errors
from saecore.runs.inputs import build_inputs
from saecore.runs.open_run import OpenRun, runs_of
from saecore.runs.resume import find
from saecore.runs.signals import Interrupted, Signals
from saecore.runs.training_run import RunResult, TrainingRun
from saecore.storage.remote_code import remote_code
from saecore.storage.run_directory import RunDirectory, make_writable


def run(
    experiment: Experiment | str | Path,
    trust_remote_code: bool = False,
    *,
    resume: Literal[True] | str | Path | None = None,
) -> RunResult:
    """Train, evaluate and save an SAE.

    Args:
        experiment: the experiment, or the path of its file.
        trust_remote_code: whether Python code that comes with the model may run.
        resume: resume a run that was stopped: True for the newest unfinished one of the
            experiment's name (a new run if there is none), or a run's directory or id.

    Raises:
        SaecoreError: the experiment cannot be run; existing runs are left unchanged.
        Interrupted: SIGINT or SIGTERM arrived; the run can be resumed.
    """
    if isinstance(experiment, (str, Path)):
        with labeled_errors(str(experiment)):
            return run(load_experiment(experiment)[0], trust_remote_code, resume=resume)
    if not isinstance(experiment, Experiment):
        raise TypeError(
            "expected an Experiment or the path of an experiment file, got "
            f"{type(experiment).__name__}"
        )
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        parent = make_writable(runs_of(experiment))
        directory = find(experiment, resume) if resume else None
        if resume and directory is None:
            print(f"no run in {parent} to resume; starting a new one", flush=True)
        opened = stack.enter_context(contextlib.closing(OpenRun(experiment, directory)))
        if opened.nothing_to_do:
            return finished(opened.directory)
        with remote_code(trust_remote_code):
            inputs = build_inputs(experiment)
        training = TrainingRun(experiment, inputs, signals, opened)
        stack.callback(training.close)
        try:
            training.begin()
            with signals.deferred():
                for _ in training.steps():
                    pass
            return training.finish()
        except Interrupted as stop:
            training.locate(stop)
            raise


def finished(directory: RunDirectory) -> RunResult:
    """Read the result of a run that has already ended.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        result = directory.read_result()
        seconds, evaluation = float(result["training"]["seconds"]), result["figures"]
        figures = [line for line in directory.read_metrics() if "metrics/l0" in line]
    except (CheckpointError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{directory.path}: the run has ended, but its results cannot be read: {error}; "
            f"`saecore verify {shlex.quote(str(directory.path))}` shows what is damaged"
        ) from error
    return RunResult(
        directory=directory.path,
        sae=SAE.load_from_disk(directory.sae_directory),
        evaluation=evaluation,
        metrics=figures[-1] if figures else {},
        seconds=seconds,
        before=True,
    )
