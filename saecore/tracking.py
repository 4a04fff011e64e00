"""Where a run's figures go: metrics.jsonl, written by the core, and loggers."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

import attrs

from saecore.files import explained


@attrs.frozen
class SweepInfo:
    """What a logger knows of the sweep that a run belongs to."""

    name: str
    """The sweep's name."""
    directory: Path
    """The sweep's directory, which holds those of its points; its id for trackers is the path."""
    differs: Mapping[str, Any] = attrs.field(factory=dict)
    """What the point has of its own: settings under their TOML keys."""


@attrs.frozen
class RunInfo:
    """What a logger knows of a run."""

    name: str
    """The experiment's name."""
    id: str
    """The run's id, the last part of its directory."""
    directory: Path
    """The run's directory."""
    parameters: Mapping[str, Any]
    """Every setting under its TOML key."""
    steps: int
    """Optimizer steps in all."""
    batch_size: int
    """Tokens per step."""
    resumed_at: int = 0
    """Steps completed before this process; their figures stand in metrics.jsonl."""
    sweep: SweepInfo | None = None
    """The sweep it is a point of."""


class Logger(Protocol):
    """Receives a run's figures; never sees the SAE. Its failures never stop a run."""

    def start(self, run: RunInfo) -> None:
        """The run begins."""
        ...

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Figures after `step` steps."""
        ...

    def artifact(self, path: Path) -> None:
        """A finished file or directory of the run."""
        ...

    def close(self) -> None:
        """The run has ended; write what is buffered."""
        ...


@runtime_checkable
class SweepLogger(Protocol):
    """What a logger may have besides, to show the runs of a sweep together."""

    def sweep_ended(self, sweep: SweepInfo, report: Path | None, finished: bool) -> None:
        """All runs of the sweep are closed: its report, and whether every point is finished.

        Called on a logger that was built for this, with the sweep's directory, and not started.
        """
        ...


class MetricsFile:
    """metrics.jsonl: one line of figures per log interval or evaluation.

    Args:
        path: the file.
        length: bytes that are kept of what is there; a resumed run writes the rest again.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        with explained(path):
            self._file: BinaryIO = path.open("ab")
            if self._file.tell() < length:
                missing = length - self._file.tell()
                print(f"warning: {path}: {missing} bytes are missing at the end", file=sys.stderr)
            else:
                self._file.truncate(length)

    def write(self, step: int, tokens: int, values: Mapping[str, float]) -> None:
        """Append a line; numbers that are not finite become null."""
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        line = json.dumps({"step": step, "tokens": tokens, **finite}) + "\n"
        with explained(Path(self._file.name)):
            self._file.write(line.encode())
            self._file.flush()

    def sync(self) -> int:
        """Make what was written survive a power cut; returns the file's length in bytes."""
        with explained(Path(self._file.name)):
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Loggers:
    """Several loggers as one; a logger that fails is reported once and left out from then on."""

    def __init__(self, loggers: Sequence[tuple[str, Logger]]) -> None:
        self._loggers = dict(loggers)

    def call(self, method: str, *args: Any) -> None:
        """Call a method of every logger that still works."""
        for name, logger in list(self._loggers.items()):
            try:
                getattr(logger, method)(*args)
            except Exception as error:  # a tracker must not cost a run
                del self._loggers[name]
                print(
                    f"warning: logger {name} failed and is left out from here on: "
                    f"{type(error).__name__}: {error} (metrics.jsonl goes on)",
                    file=sys.stderr,
                )


def warn(message: str) -> None:
    """Print a warning to stderr."""
    print(f"warning: {message}", file=sys.stderr)
