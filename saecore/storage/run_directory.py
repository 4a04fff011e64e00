"""A run's directory: the names of its files, and how it is created, locked, read and written."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.errors import CheckpointError
from saecore.storage.files import checkpoint_errors, storage_errors, sync, write_json
from saecore.storage.lock import locked

RECORD = "experiment.json"
"""Written when a run starts: experiment, model, data, versions."""
RESULT = "evaluation.json"
"""Written when a run ends: held-out metrics, tokens, seconds, memory."""
NEW_RUN = "start a new run (without --resume; a sweep under another name)"
"""What to do if a run cannot be resumed; commands and sweeps share the messages."""
SWEEP = "sweep.json"
"""Written by a sweep into its directory: the state of each point."""


@attrs.frozen
class RunDirectory:
    """The directory of one run: `<output>/<name>/<id>`, or `<output>/<sweep>/<point>/<id>`."""

    path: Path
    """The directory."""

    @classmethod
    def create(cls, parent: Path) -> RunDirectory:
        """Make a directory for a new run; its id starts with the present second.

        Raises:
            CheckpointError: nothing can be written in `parent`.
        """
        with checkpoint_errors(), storage_errors(parent):
            while True:
                path = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                sync(parent)
                return cls(path)

    @property
    def id(self) -> str:
        """The run's id: the last part of the path."""
        return self.path.name

    @property
    def record_file(self) -> Path:
        """experiment.json."""
        return self.path / RECORD

    @property
    def result_file(self) -> Path:
        """evaluation.json."""
        return self.path / RESULT

    @property
    def metrics_file(self) -> Path:
        """metrics.jsonl."""
        return self.path / "metrics.jsonl"

    @property
    def sae_directory(self) -> Path:
        """The saved SAE."""
        return self.path / "sae"

    @property
    def checkpoint_directory(self) -> Path:
        """The directory of all checkpoints."""
        return self.path / "checkpoints"

    @property
    def is_run(self) -> bool:
        """Whether a run was started here."""
        return self.record_file.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the run reached its end."""
        return self.result_file.exists()

    @property
    def age(self) -> tuple[str, int]:
        """Sorts runs from oldest to newest: the second of the start, then the record's time."""
        return self.id[:15], self.record_file.stat().st_mtime_ns

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the run.

        Raises:
            CheckpointError: another process is using it.
        """
        with contextlib.ExitStack() as stack:
            with checkpoint_errors():
                stack.enter_context(locked(self.path, NEW_RUN))
            yield

    def checkpoints(self) -> list[Path]:
        """List the run's checkpoints, oldest first, without checking them."""
        from saecore.storage.checkpoint import checkpoints  # imports torch

        return checkpoints(self.checkpoint_directory)

    def read_record(self) -> dict[str, Any]:
        """Read experiment.json.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        record = _read_json(self.record_file, "the record of a run")
        if not isinstance(record.get("experiment"), dict):
            raise CheckpointError(
                f"{self.record_file}: not the record of a run: experiment: expected a table"
            )
        return record

    def read_result(self) -> dict[str, Any]:
        """Read evaluation.json.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        result = _read_json(self.result_file, "the results of a run")
        if not isinstance(result.get("figures"), dict):
            raise CheckpointError(
                f"{self.result_file}: not the results of a run: figures: expected a table"
            )
        return result

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        file = self.metrics_file
        with _read_errors(file, "the metrics of a run"):
            return [dict(json.loads(line)) for line in file.read_text("utf-8").splitlines()]

    @checkpoint_errors()
    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write experiment.json.

        Raises:
            CheckpointError: it cannot be written.
        """
        write_json(self.record_file, record)

    @checkpoint_errors()
    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write evaluation.json, which marks the run as finished.

        Raises:
            CheckpointError: it cannot be written.
        """
        write_json(self.result_file, result)

    def reopen(self) -> None:
        """Delete evaluation.json: the run continues."""
        self.result_file.unlink(missing_ok=True)


def find_runs(directory: Path, depths: Sequence[int] = (1,)) -> list[RunDirectory]:
    """Find the runs that lie a number of levels below a directory, sorted by path."""
    patterns = ("*/" * depth + RECORD for depth in depths)
    files = (file for pattern in patterns for file in directory.glob(pattern))
    return [RunDirectory(path) for path in sorted(file.parent for file in files)]


def make_writable(directory: Path) -> Path:
    """Create the directory in which runs of one name lie, before anything slow happens.

    Raises:
        CheckpointError: nothing can be written there.
    """
    with checkpoint_errors(), storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    return directory


def _read_json(file: Path, content: str) -> dict[str, Any]:
    with _read_errors(file, content):
        table = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise TypeError("expected a table")
    return table


@contextlib.contextmanager
def _read_errors(file: Path, content: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{file}: not {content}: {error}") from None
