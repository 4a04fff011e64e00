"""Find the run to resume, and check that the result will be bit-identical."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from saecore.config.experiment import Experiment
from saecore.config.load import structure_experiment
from saecore.config.messages import flatten, to_tables
from saecore.core.schedule import Schedule
from saecore.errors import CheckpointError, warn
from saecore.storage import checkpoint
from saecore.storage.files import contained
from saecore.storage.run_directory import NEW_RUN, RunDirectory, find_runs
from saecore.training.trainer import Trainer

FREE = ("name", "output", "logger", "evaluation", "evaluator", "training.checkpoint")
"""Settings that may change between a run and its resume."""
GROWS = "training.tokens"
"""The setting that may only grow."""


def find(experiment: Experiment, resume: Literal[True] | str | Path) -> RunDirectory | None:
    """Find the run to resume.

    Args:
        experiment: the experiment, for its output and name.
        resume: True for the newest unfinished run of that name (or, if all are finished, the
            newest), otherwise a run's directory or id.

    Returns:
        The run, or None if `resume` is True and there is no run of that name.

    Raises:
        CheckpointError: there is no such run.
    """
    parent = Path(experiment.output) / experiment.name
    runs = find_runs(parent)
    if resume is True:
        unfinished = [run for run in runs if not run.is_finished]
        return max(unfinished or runs, key=lambda run: run.age, default=None)
    by_path = RunDirectory(Path(resume))
    if by_path.is_run:
        return by_path
    if contained(str(resume)) and (by_id := RunDirectory(parent / str(resume))).is_run:
        return by_id
    known = ", ".join(run.id for run in runs) or "none"
    raise CheckpointError(
        f"--resume {resume}: neither the directory of a run nor the id of a run in {parent} "
        f"(known ids: {known})"
    )


def recorded(record: Mapping[str, Any], directory: RunDirectory) -> Experiment:
    """Structure the experiment of a run's record, with defaults for settings added since.

    Raises:
        ConfigError: this version, or the installed plugins, cannot run it.
    """
    return structure_experiment(record["experiment"], str(directory.record_file))


def check_same(old: Experiment, new: Experiment, directory: Path) -> None:
    """Refuse a resume that could not reproduce an uninterrupted run bit for bit.

    Raises:
        CheckpointError: settings that must not change have changed; the message lists them all.
    """
    before, now = dict(_fixed(old)), dict(_fixed(new))
    changed = [
        f"{key} ({_shown(before, key)} in the run, {_shown(now, key)} now)"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if new.training.tokens < old.training.tokens:
        shown = f"{old.training.tokens:_} in the run, {new.training.tokens:_} now"
        changed.append(f"{GROWS} ({shown}; it may only grow)")
    if changed:
        raise CheckpointError(
            f"{directory}: cannot be resumed, the experiment has changed: {'; '.join(changed)}. "
            "Only loggers, evaluation, checkpoints, name and output may change; undo the other "
            f"changes, or {NEW_RUN}"
        )


def check_same_data(old: Mapping[str, Any], new: Mapping[str, Any], directory: Path) -> list[str]:
    """Refuse a different model or text; list changes that may affect the last bits.

    Args:
        old: the run's record.
        new: the record that a run started now would have.
        directory: the run's directory.

    Returns:
        One line per version or device that has changed.

    Raises:
        CheckpointError: the model or the text has changed.
    """
    for key, name in (("model", "model"), ("corpus", "text"), ("tokens_key", "text")):
        if old.get(key) != new[key]:
            raise CheckpointError(
                f"{directory}: cannot be resumed, the {name} has changed since the run began "
                f"({old.get(key)} then, {new[key]} now); {NEW_RUN}"
            )
    then, now = ({**record.get("plugins", {}), **record} for record in (old, new))
    keys = ["device", "torch", *sorted(old.get("plugins", {}).keys() & new["plugins"].keys())]
    return [
        f"{key} was {then.get(key)} and is {now.get(key)}"
        for key in keys
        if then.get(key) != now.get(key)
    ]


def check_growth(trainer: Trainer, old: Experiment, new: Experiment, directory: Path) -> None:
    """Refuse more steps if a completed step would have been different with the new total.

    Raises:
        CheckpointError: a schedule depends on the total; the message names it and the step.
    """
    old_steps, new_steps = old.training.steps, new.training.steps
    if old_steps == new_steps:
        return

    def differs(schedule: Schedule) -> int | None:
        steps = range(trainer.completed)
        return next((n for n in steps if schedule(n, old_steps) != schedule(n, new_steps)), None)

    schedules: list[tuple[str, Schedule]] = [("training.lr_schedule", trainer.lr_schedule)]
    schedules += [
        (f"schedule of {name}", value.at) for name, value in trainer.sae.scheduled().items()
    ]
    for name, schedule in schedules:
        step = differs(schedule)
        if step is not None:
            raise CheckpointError(
                f"{directory}: {GROWS} cannot grow: {name} depends on the number of steps; at "
                f"step {step}, already completed, it was {schedule(step, old_steps):g} in a run of "
                f"{old_steps} steps and would be {schedule(step, new_steps):g} in one of "
                f"{new_steps}; a constant schedule can grow until its decay begins"
            )


@attrs.frozen(eq=False)
class SavedState:
    """The state read from a valid checkpoint."""

    path: Path
    """The checkpoint's directory."""
    state: Mapping[str, Any]
    """The trainer's state; the entry "run" holds that of the training loop."""

    @property
    def metrics_length(self) -> int:
        """Bytes of metrics.jsonl that were written before the checkpoint."""
        return int(self.state["run"]["metrics_length"])


def newest(run: RunDirectory, experiment: str) -> SavedState | None:
    """Read the newest valid checkpoint of a run; print its name, and each one rejected.

    Files that a killed process left half-written are deleted. A rejected checkpoint is renamed, so
    that it does not count as one of those to keep.

    Args:
        run: the run's directory, locked by the caller.
        experiment: hash of the experiment that the checkpoint must belong to.

    Returns:
        None if the run was stopped before its first checkpoint.

    Raises:
        CheckpointError: there are checkpoints, but none is valid.
    """
    checkpoint.clean(run.path)
    paths = run.checkpoints()
    for path in reversed(paths):
        try:
            state = checkpoint.load(path, experiment)
        except CheckpointError as error:
            aside = checkpoint.set_aside(path)
            warn(f"checkpoint rejected: {error}; renamed to {aside.name}")
            continue
        print(f"resuming {run.path} from {path.name}", flush=True)
        return SavedState(path, state)
    if paths:
        raise CheckpointError(
            f"{run.path}: none of its {len(paths)} checkpoints is valid; {NEW_RUN}"
        )
    print(f"resuming {run.path}: no checkpoint yet, starting at the first step", flush=True)
    return None


def fingerprint(experiment: Experiment) -> str:
    """Hash every setting that affects the bits of a run, except its length."""
    text = json.dumps(dict(_fixed(experiment)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fixed(experiment: Experiment) -> Iterator[tuple[str, Any]]:
    tables = json.loads(json.dumps(to_tables(experiment)))
    for key, value in flatten(tables):
        if key != GROWS and not any(
            key == table or key.startswith((f"{table}.", f"{table}[")) for table in FREE
        ):
            yield key, value


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "not set"
