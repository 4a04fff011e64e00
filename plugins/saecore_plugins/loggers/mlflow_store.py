"""One run in an MLflow store, new or continued. Imported by the logger's thread only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from saecore.tracking import RunInfo, SweepInfo

LOCK_SECONDS = 300
"""How long to wait for another process that is making the database."""


@contextlib.contextmanager
def opened(
    tracking_uri: str | None, experiment: str, output: Path
) -> Iterator[tuple[MlflowClient, str]]:
    """A client and the id of an MLflow experiment, made if there is none, under the store's lock.

    Args:
        tracking_uri: the store; None: sqlite at <output>/mlflow.db.
        experiment: name of the MLflow experiment.
        output: directory of the runs, or sweeps.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from filelock import FileLock

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.ERROR)
    output = output.resolve()
    uri = tracking_uri or f"sqlite:///{output / 'mlflow.db'}"
    local = uri.startswith("sqlite:///")
    place = Path(uri.removeprefix("sqlite:///")).parent if local else output
    # MLflow alone fails when several processes, or threads, make one database at once.
    with FileLock(place / ".mlflow.lock", timeout=LOCK_SECONDS):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            artifacts = (output / "mlartifacts" / experiment).as_uri() if local else None
            yield client, str(client.create_experiment(experiment, artifact_location=artifacts))
        else:
            yield client, str(found.experiment_id)


def parent(client: MlflowClient, experiment: str, sweep: SweepInfo) -> str:
    """The MLflow run of a sweep, made if there is none; the caller holds the store's lock."""
    directory = str(sweep.directory.resolve())
    # A directory may hold a quote, which the search's syntax has no way to write.
    key = hashlib.sha256(directory.encode()).hexdigest()[:16]
    found = client.search_runs([experiment], f"tags.`saecore.sweep` = '{key}'")
    if found:
        return str(found[0].info.run_id)
    tags = {"saecore.sweep": key, "saecore.directory": directory}
    return str(client.create_run(experiment, run_name=sweep.name, tags=tags).info.run_id)


class Store:
    """Finds the MLflow run that bears this run's id, or makes one.

    A point of a sweep is a child of the sweep's run, with what it has of its own as tags.

    Args:
        tracking_uri: the store; None: sqlite at <output>/mlflow.db.
        experiment: MLflow experiment; None: the name of the experiment, or of the sweep.
        output: directory of the runs, or sweeps.
        run: what is tracked.
    """

    def __init__(
        self, tracking_uri: str | None, experiment: str | None, output: Path, run: RunInfo
    ) -> None:
        self._run = run
        self._sent: dict[str, set[int]] = {}
        name = experiment or (run.name if run.sweep is None else run.sweep.name)
        with opened(tracking_uri, name, output) as (self._client, number):
            self._id = self._continued(number) or self._new(number)

    def _new(self, experiment: str) -> str:
        tags = {"saecore.run": self._run.id, "saecore.directory": str(self._run.directory)}
        name, sweep = self._run.id, self._run.sweep
        if sweep is not None:
            name = self._run.name
            tags["mlflow.parentRunId"] = parent(self._client, experiment, sweep)
            tags.update({key: str(value)[:5000] for key, value in sweep.differs.items()})
        created = self._client.create_run(experiment, run_name=name, tags=tags)
        self._parameters(created.info.run_id, {})
        return str(created.info.run_id)

    def _continued(self, experiment: str) -> str | None:
        """The run of an earlier process; learns what it has."""
        found = self._client.search_runs([experiment], f"tags.`saecore.run` = '{self._run.id}'")
        if not found:
            return None
        number = str(found[0].info.run_id)
        self._client.update_run(number, status="RUNNING")
        self._parameters(number, found[0].data.params)
        for key in found[0].data.metrics:
            history = self._client.get_metric_history(number, key)
            self._sent[key] = {one.step for one in history}
        return number

    def _parameters(self, number: str, known: Mapping[str, str]) -> None:
        """Send settings; MLflow never changes one, so that those of a resume stay as they were."""
        from mlflow.entities import Param

        params = [
            Param(key.replace("[", ".").replace("]", ""), str(value)[:6000])
            for key, value in self._run.parameters.items()
        ]
        params = [one for one in params if one.key not in known]
        for at in range(0, len(params), 100):
            self._client.log_batch(number, params=params[at : at + 100])

    def missing(self) -> list[Any]:
        """What earlier processes of the run measured and the store lacks."""
        found: list[Any] = []
        if not self._run.resumed_at:
            return found
        with (self._run.directory / "metrics.jsonl").open(encoding="utf-8") as file:
            for line in file:
                try:
                    values = json.loads(line)
                except ValueError:
                    break  # the line that is being written
                step = values.pop("step")
                if step > self._run.resumed_at:
                    break
                del values["tokens"]
                known = {key: one for key, one in values.items() if one is not None}
                found += self.metrics(step, known)
        return found

    def metrics(self, step: int, values: Mapping[str, float]) -> list[Any]:
        """MLflow's records of figures, without those that the store has."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        fresh = []
        for name, value in values.items():
            sent = self._sent.get(name)
            if not math.isfinite(value) or (sent is not None and step in sent):
                continue
            if self._run.resumed_at:
                self._sent.setdefault(name, set()).add(step)
            fresh.append(Metric(name, float(value), now, step))
        return fresh

    def log(self, metrics: list[Any]) -> None:
        """Send figures, at most 1000."""
        self._client.log_batch(self._id, metrics=metrics)

    def artifact(self, path: Path) -> None:
        """Send a file or directory."""
        if path.is_dir():
            self._client.log_artifacts(self._id, str(path), path.name)
        else:
            self._client.log_artifact(self._id, str(path))

    def end(self) -> None:
        """Say how the run ended: only one that reached its end has an evaluation.json."""
        done = (self._run.directory / "evaluation.json").exists()
        self._client.set_terminated(self._id, "FINISHED" if done else "KILLED")
