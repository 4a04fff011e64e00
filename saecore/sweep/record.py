"""sweep.json: which points a sweep has, and how each of them stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs

from saecore.config.sweep import Point, Sweep
from saecore.errors import SaecoreError
from saecore.files import write_json
from saecore.plugins import Host
from saecore.resume import RECORD, RESULT, fingerprint, read_record, recorded

SWEEP = "sweep.json"
State = Literal["waiting", "training", "finished", "interrupted", "failed"]


class SweepRecord:
    """The states of a sweep's points, written to <sweep>/sweep.json whenever one changes.

    Args:
        sweep: the sweep; the caller holds the lock of its directory.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._states: dict[str, dict[str, Any]] = {
            one.name: {"name": one.name, "differs": dict(one.differs), "state": "waiting"}
            for one in sweep.points
        }

    def set(
        self, name: str, state: State, run: Path | None = None, error: str | None = None
    ) -> None:
        """Change the state of a point, and write them all."""
        entry = self._states[name]
        entry["state"] = state
        entry.pop("error", None)
        if run is not None:
            entry["run"] = run.relative_to(self._sweep.directory).as_posix()
        if error is not None:
            entry["error"] = error
        points = list(self._states.values())
        value = {"name": self._sweep.name, "source": self._sweep.source, "points": points}
        write_json(self._sweep.directory / SWEEP, value)


@attrs.frozen
class Earlier:
    """A run of a point that an earlier process left."""

    directory: Path
    finished: bool


def earlier(point: Point, host: Host) -> Earlier | None:
    """The run of a point to go on with: of the same experiment to the last setting.

    A finished one is taken before one that is not, a newer one before an older one. Runs of the
    point's name that were made with other settings are left as they are.
    """
    parent = Path(point.experiment.output) / point.name
    found = []
    for record in sorted(parent.glob(f"*/{RECORD}")):
        directory = record.parent
        try:
            old = recorded(read_record(directory), directory, host)
        except SaecoreError:  # damaged, or of another version
            continue
        same = fingerprint(old) == fingerprint(point.experiment)
        if same and old.training.tokens == point.experiment.training.tokens:
            age = (directory.name[:15], record.stat().st_mtime_ns)
            found.append(((directory / RESULT).exists(), age, directory))
    if not found:
        return None
    done, _, directory = max(found)
    return Earlier(directory, done)
