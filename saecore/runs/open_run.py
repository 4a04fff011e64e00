"""Open a run: lock its directory, check that a resume is exact, load its newest checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saecore.config.experiment import Experiment
from saecore.errors import warn
from saecore.runs.resume import (
    SavedState,
    check_growth,
    check_same,
    check_same_data,
    fingerprint,
    newest,
    recorded,
)
from saecore.storage.run_directory import RunDirectory, make_writable
from saecore.training.trainer import Trainer


class OpenRun:
    """A run that this process holds: a new one, or one to resume.

    A new run's directory is created by `begin`, when everything that could refuse the experiment
    has passed; that of a run to resume is locked and checked at once.

    Args:
        experiment: the experiment to run.
        directory: the run to resume; default: a new run.

    Raises:
        CheckpointError: another process holds the run, its record is damaged, or the experiment
            has changed.
        ConfigError: this version, or the installed plugins, cannot run the recorded experiment.
    """

    def __init__(self, experiment: Experiment, directory: RunDirectory | None = None) -> None:
        self._experiment = experiment
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._record: Mapping[str, Any] = {}
        self._recorded = experiment
        if directory is None:
            return
        self._stack.enter_context(directory.locked())
        try:
            self._record = directory.read_record()
            self._recorded = recorded(self._record, directory)
            check_same(self._recorded, experiment, directory.path)
        except BaseException:
            self.close()
            raise

    @property
    def directory(self) -> RunDirectory:
        """The run's directory; a new run has one after `begin`."""
        if self._directory is None:
            raise LookupError("the run has not begun")
        return self._directory

    @property
    def nothing_to_do(self) -> bool:
        """Whether the run has already trained every step and been evaluated."""
        directory, steps = self._directory, self._recorded.training.steps
        return (
            directory is not None
            and directory.is_finished
            and steps == self._experiment.training.steps
        )

    def begin(self, trainer: Trainer, record: Mapping[str, Any]) -> SavedState | None:
        """Create the directory or load the newest checkpoint into the trainer; write the record.

        Args:
            trainer: the trainer before its first step.
            record: the content of experiment.json.

        Returns:
            The checkpoint that the run continues from; None where it starts at the first step.

        Raises:
            CheckpointError: the directory cannot be written, model or text have changed, no
                checkpoint is valid, or the run cannot grow exactly.
        """
        saved = None
        if self._directory is None:
            parent = make_writable(runs_of(self._experiment))
            self._directory = RunDirectory.create(parent)
            self._stack.enter_context(self._directory.locked())
        else:
            directory = self._directory
            for change in check_same_data(self._record, record, directory.path):
                warn(f"{change}: results may no longer be bit-identical")
            saved = newest(directory, fingerprint(self._experiment))
            if saved is not None:
                trainer.load_state_dict(saved.state)
                check_growth(trainer, self._recorded, self._experiment, directory.path)
            directory.reopen()
        self._directory.write_record(record)
        return saved

    def close(self) -> None:
        """Release the run; an unfinished one can be resumed."""
        self._stack.close()


def runs_of(experiment: Experiment) -> Path:
    """The directory of all runs of an experiment's name."""
    return Path(experiment.output) / experiment.name
