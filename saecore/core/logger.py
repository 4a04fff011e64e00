"""Loggers: receivers of a run's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import attrs


@attrs.frozen
class SweepInfo:
    """What a logger knows about the sweep that a run belongs to."""

    name: str
    """The sweep's name."""
    directory: Path
    """The sweep's directory, which contains those of its points; trackers use the path as id."""
    differs: Mapping[str, Any] = attrs.field(factory=dict)
    """The settings that distinguish this point, under their TOML keys."""


@attrs.frozen(kw_only=True)
class RunInfo:
    """What a logger knows about a run."""

    name: str
    """The experiment's name."""
    id: str
    """The run's id, the last part of its directory."""
    directory: Path
    """The run's directory."""
    parameters: Mapping[str, Any]
    """Every setting under its TOML key."""
    steps: int
    """Total number of optimizer steps."""
    batch_size: int
    """Tokens per step."""
    resumed_at: int = 0
    """Steps completed by earlier processes; their metrics are in metrics.jsonl."""
    sweep: SweepInfo | None = None
    """The sweep that the run is a point of, if any."""


class Logger(Protocol):
    """Receives a run's metrics, never the SAE. A logger that fails never stops a run.

    Its config may have a method `look_at(output: Path) -> str | None`, for the end of a run: the
    command or address that shows the metrics of the runs in `output`; None if none arrived.
    """

    def start(self, run: RunInfo) -> None:
        """Start logging a run."""
        ...

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics after `step` steps."""
        ...

    def artifact(self, path: Path) -> None:
        """Log a finished file or directory of the run."""
        ...

    def close(self) -> None:
        """Finish after the run has ended; write buffered data."""
        ...


@runtime_checkable
class SweepLogger(Protocol):
    """An optional method of loggers that show the runs of a sweep together."""

    def sweep_ended(self, sweep: SweepInfo, report: Path | None, finished: bool) -> None:
        """Log the report of a sweep whose runs are closed, and whether every point finished.

        Called on a separate logger, built with the sweep's directory and never started.
        """
        ...
