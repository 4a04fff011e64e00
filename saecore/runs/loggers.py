"""metrics.jsonl, which every run writes, and the loggers of an experiment."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from saecore.config.experiment import Experiment
from saecore.core.logger import Logger
from saecore.errors import warn
from saecore.plugins.host import current_host
from saecore.plugins.structure import structure_choice
from saecore.storage.files import checkpoint_errors, storage_errors


class MetricsFile:
    """metrics.jsonl: one line of metrics per log interval or evaluation.

    Args:
        path: the file.
        length: bytes to keep of an existing file; a resumed run writes the rest again.

    Raises:
        CheckpointError: it cannot be written.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self._path = path
        with checkpoint_errors(), storage_errors(path):
            self._file: BinaryIO = path.open("ab")
            if self._file.tell() < length:
                missing = length - self._file.tell()
                warn(f"{path}: {missing} bytes are missing at the end")
            else:
                self._file.truncate(length)

    def write(self, step: int, tokens: int, values: Mapping[str, float]) -> None:
        """Append a line; values that are not finite become null."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": step, "tokens": tokens, **finite}) + "\n"
        with checkpoint_errors(), storage_errors(self._path):
            self._file.write(line.encode())
            self._file.flush()

    def sync(self) -> int:
        """Sync the file to disk and return its length in bytes."""
        with checkpoint_errors(), storage_errors(self._path):
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Loggers:
    """Several loggers as one; a logger that fails is reported once and not called again."""

    def __init__(self, loggers: Sequence[tuple[str, Logger]]) -> None:
        self._loggers = dict(loggers)

    def call(self, method: str, *args: Any) -> None:
        """Call a method of every logger that has not failed."""
        for name, logger in list(self._loggers.items()):
            try:
                getattr(logger, method)(*args)
            except Exception as error:  # a failing tracker must not end a run
                del self._loggers[name]
                warn(
                    f"logger {name} failed and is switched off: {type(error).__name__}: {error} "
                    "(metrics.jsonl is still written)"
                )


def build_loggers(
    experiment: Experiment, directory: Path, display: Logger | None = None
) -> Loggers:
    """Build the loggers of an experiment, and the console unless something replaces it.

    Args:
        experiment: the experiment.
        directory: the run's directory.
        display: a logger that replaces the console.
    """
    choices = list(experiment.logger)
    if display is not None:
        choices = [choice for choice in choices if choice.name != "console"]
    elif not any(choice.name == "console" for choice in choices) and (
        "console" in current_host().names("logger")
    ):
        choices.append(structure_choice("logger", "console"))
    loggers: list[tuple[str, Logger]] = [
        (choice.name, choice.build(directory)) for choice in choices
    ]
    if display is not None:
        loggers.append(("console", display))
    return Loggers(loggers)
