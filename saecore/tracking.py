"""Where a run's figures go: metrics.jsonl, written by the core, and loggers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import attrs

from saecore.files import explained


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


class MetricsFile:
    """metrics.jsonl: one line of figures per log interval or evaluation."""

    def __init__(self, path: Path) -> None:
        with explained(path):
            self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, step: int, tokens: int, values: Mapping[str, float]) -> None:
        """Append a line; numbers that are not finite become null."""
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        with explained(Path(self._file.name)):
            self._file.write(json.dumps({"step": step, "tokens": tokens, **finite}) + "\n")
            self._file.flush()

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
