"""Which run to go on with, and whether that can be exact."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from saecore import checkpoint
from saecore.config.experiment import Experiment
from saecore.config.explain import flatten, to_tables
from saecore.config.load import structure_experiment
from saecore.errors import CheckpointError
from saecore.files import contained
from saecore.plugins import Host
from saecore.step import Schedule
from saecore.trainer import Trainer

FREE = ("name", "output", "logger", "evaluation", "evaluator", "training.checkpoint")
"""What may change between a run and its resume."""
GROWS = "training.tokens"

RECORD, RESULT = "experiment.json", "evaluation.json"
"""Written at the beginning of a run and at its end."""


def find(experiment: Experiment, resume: Literal[True] | str | Path) -> Path | None:
    """The directory of the run to go on with.

    Args:
        experiment: gives output and name.
        resume: True for the newest run of that name that is not finished (or, if all are, the
            newest); else a run's directory or id.

    Returns:
        None where there is no run of that name.

    Raises:
        CheckpointError: there is no such run.
    """
    parent = Path(experiment.output) / experiment.name
    if resume is True:
        runs = sorted((one.parent for one in parent.glob(f"*/{RECORD}")), key=_age)
        unfinished = [one for one in runs if not (one / RESULT).exists()]
        latest = unfinished or runs
        return latest[-1] if latest else None
    if (Path(resume) / RECORD).exists():
        return Path(resume)
    if contained(str(resume)) and (parent / str(resume) / RECORD).exists():
        return parent / str(resume)
    known = ", ".join(sorted(one.parent.name for one in parent.glob(f"*/{RECORD}"))) or "none"
    raise CheckpointError(
        f"--resume {resume}: no run's directory, and no id of a run in {parent} (there: {known})"
    )


def _age(directory: Path) -> tuple[str, int]:
    """Ids begin with the second of their start; within it, the order of the records."""
    return directory.name[:15], (directory / RECORD).stat().st_mtime_ns


def read_record(directory: Path) -> dict[str, Any]:
    """A run's experiment.json.

    Raises:
        CheckpointError: it is damaged.
    """
    file = directory / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record["experiment"], dict):
            raise TypeError("experiment: expected a table")
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{file}: not the record of a run: {error}") from None
    return dict(record)


def recorded(record: Mapping[str, Any], directory: Path, host: Host) -> Experiment:
    """The experiment of a run's record, defaults of newer versions filled in.

    Raises:
        ConfigError: this version, or the plugins at hand, cannot run it.
    """
    return structure_experiment(record["experiment"], str(directory / RECORD), host)


def check_same(old: Experiment, new: Experiment, directory: Path) -> None:
    """Refuse a resume that could not give the bits of an uninterrupted run.

    Raises:
        CheckpointError: something else than what may change has changed; all of it is listed.
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
            "Only loggers, evaluation, checkpoints, name and output may change; undo the rest, "
            "or start a run of its own without --resume"
        )


def check_same_data(old: Mapping[str, Any], new: Mapping[str, Any], directory: Path) -> list[str]:
    """Refuse another model or text; name what may change bits.

    Args:
        old: the record of the run.
        new: the record that a run started now would have.
        directory: the run's directory.

    Returns:
        Lines for a warning.

    Raises:
        CheckpointError: the model or the text has changed.
    """
    for key, what in (("model", "the model"), ("corpus", "the text"), ("tokens_key", "the text")):
        if old.get(key) != new[key]:
            raise CheckpointError(
                f"{directory}: cannot be resumed, {what} has changed since it began "
                f"({old.get(key)} then, {new[key]} now); start a run of its own without --resume"
            )
    then, now = ({**one.get("plugins", {}), **one} for one in (old, new))
    keys = ["device", "torch", *sorted(old.get("plugins", {}).keys() & new["plugins"].keys())]
    return [
        f"{key} was {then.get(key)} and is {now.get(key)}"
        for key in keys
        if then.get(key) != now.get(key)
    ]


def check_growth(trainer: Trainer, old: Experiment, new: Experiment, directory: Path) -> None:
    """Refuse more steps where a completed one would have been another under the new total.

    Raises:
        CheckpointError: a schedule depends on the total; the message names it and the step.
    """
    old_steps, new_steps = old.training.steps, new.training.steps
    if old_steps == new_steps:
        return

    def differs(schedule: Schedule) -> int | None:
        steps = range(trainer.completed)
        return next((s for s in steps if schedule(s, old_steps) != schedule(s, new_steps)), None)

    schedules: list[tuple[str, Schedule]] = [("training.lr_schedule", trainer.lr_schedule)]
    schedules += [(f"schedule of {name}", one.at) for name, one in trainer.sae.scheduled().items()]
    for name, schedule in schedules:
        step = differs(schedule)
        if step is not None:
            raise CheckpointError(
                f"{directory}: {GROWS} cannot grow: {name} depends on the number of steps, and "
                f"step {step}, which is done, was {schedule(step, old_steps):g} of {old_steps} "
                f"steps and would be {schedule(step, new_steps):g} of {new_steps}; a constant "
                "schedule can grow until its decay begins"
            )


@attrs.frozen(eq=False)
class Saved:
    """A checkpoint that was found valid."""

    path: Path
    """Its directory."""
    state: Mapping[str, Any]
    """What was saved: the trainer's state, and under "run" that of the run around it."""

    @property
    def metrics_length(self) -> int:
        """Bytes of metrics.jsonl that belong to it."""
        return int(self.state["run"]["metrics_length"])


def newest(directory: Path, experiment: str) -> Saved | None:
    """The newest valid checkpoint of a run; prints what it finds, and each that it rejects.

    What a killed process left half-written is deleted. A rejected checkpoint is renamed, so that
    it is not counted among those that are kept.

    Args:
        directory: the run's; the caller holds its lock.
        experiment: hash of the experiment that the checkpoint must belong to.

    Returns:
        None where the run was stopped before its first checkpoint.

    Raises:
        CheckpointError: there are checkpoints, and none is valid.
    """
    checkpoint.clean(directory)
    places = list(reversed(checkpoint.checkpoints(directory / "checkpoints")))
    for path in places:
        try:
            state = checkpoint.load(path, experiment)
        except CheckpointError as error:
            aside = checkpoint.set_aside(path)
            print(f"warning: checkpoint rejected: {error}; now {aside.name}", file=sys.stderr)
            continue
        print(f"resuming {directory} from {path.name}", flush=True)
        return Saved(path, state)
    if places:
        raise CheckpointError(
            f"{directory}: none of its {len(places)} checkpoints is valid; start a run of its own "
            "without --resume"
        )
    print(f"resuming {directory}: it has no checkpoint yet and begins again", flush=True)
    return None


def fingerprint(experiment: Experiment) -> str:
    """Hash of everything that decides the bits of a run, but for its length."""
    text = json.dumps(dict(_fixed(experiment)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fixed(experiment: Experiment) -> Iterator[tuple[str, Any]]:
    tables = json.loads(json.dumps(to_tables(experiment)))
    for key, value in flatten(tables):
        if key != GROWS and not any(
            key == free or key.startswith((f"{free}.", f"{free}[")) for free in FREE
        ):
            yield key, value


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "not set"
