"""sweep.json: the points of a sweep and the state of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from saecore.config.sweep import Point, Sweep
from saecore.errors import SaecoreError
from saecore.runs.open_run import runs_of
from saecore.runs.resume import fingerprint, recorded
from saecore.storage.files import write_json
from saecore.storage.run_directory import SWEEP, RunDirectory, find_runs

State = Literal["waiting", "training", "finished", "interrupted", "failed"]


class SweepRecord:
    """The states of a sweep's points, written to <sweep>/sweep.json whenever one changes.

    Args:
        sweep: the sweep; the caller holds the lock of its directory.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._states: dict[str, dict[str, Any]] = {
            point.name: {"name": point.name, "differs": dict(point.differs), "state": "waiting"}
            for point in sweep.points
        }

    def set(
        self, name: str, state: State, run: Path | None = None, error: str | None = None
    ) -> None:
        """Change the state of a point, and write all states."""
        entry = self._states[name]
        entry["state"] = state
        entry.pop("error", None)
        if run is not None:
            entry["run"] = run.relative_to(self._sweep.directory).as_posix()
        if error is not None:
            entry["error"] = error
        points = list(self._states.values())
        value = {"name": self._sweep.name, "source": self._sweep.label, "points": points}
        write_json(self._sweep.directory / SWEEP, value)


def earlier(point: Point) -> RunDirectory | None:
    """Find the run of a point that an earlier process left.

    Only runs of the identical experiment count. A finished run is preferred to an unfinished one,
    and a newer run to an older one.
    """
    candidates = []
    for run in find_runs(runs_of(point.experiment)):
        try:
            experiment = recorded(run.read_record(), run)
        except SaecoreError:  # damaged, or of another version
            continue
        same = fingerprint(experiment) == fingerprint(point.experiment)
        if same and experiment.training.tokens == point.experiment.training.tokens:
            candidates.append(run)
    return max(candidates, key=lambda run: (run.is_finished, run.age), default=None)
