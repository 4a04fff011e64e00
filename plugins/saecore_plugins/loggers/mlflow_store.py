"""One run in an MLflow store, new or continued; imported only by the logger's thread."""

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

from saecore.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from saecore.core.logger import RunInfo, SweepInfo

LOCK_SECONDS = 300
"""Seconds to wait for another process that is creating the database."""


@contextlib.contextmanager
def open_experiment(
    tracking_uri: str | None, experiment: str, output: Path
) -> Iterator[tuple[MlflowClient, str]]:
    """Open an MLflow experiment, created if missing; yields a client and its id.

    The store's lock is held during the `with` block.

    Args:
        tracking_uri: the store; default: sqlite at <output>/mlflow.db.
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
    folder = Path(uri.removeprefix("sqlite:///")).parent if local else output
    # MLflow itself fails when several processes or threads create one database at once.
    with FileLock(folder / ".mlflow.lock", timeout=LOCK_SECONDS):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(uri)
        known = client.get_experiment_by_name(experiment)
        if known is None:
            artifacts = (output / "mlartifacts" / experiment).as_uri() if local else None
            yield client, str(client.create_experiment(experiment, artifact_location=artifacts))
        else:
            yield client, str(known.experiment_id)


def sweep_run(client: MlflowClient, experiment_id: str, sweep: SweepInfo) -> str:
    """Find or create the MLflow run of a sweep; the caller holds the store's lock."""
    directory = str(sweep.directory.resolve())
    # A path may contain a quote, which the search syntax cannot express.
    key = hashlib.sha256(directory.encode()).hexdigest()[:16]
    runs = client.search_runs([experiment_id], f"tags.`saecore.sweep` = '{key}'")
    if runs:
        return str(runs[0].info.run_id)
    tags = {"saecore.sweep": key, "saecore.directory": directory}
    return str(client.create_run(experiment_id, run_name=sweep.name, tags=tags).info.run_id)


class Store:
    """Finds or creates the MLflow run with this run's id.

    A point of a sweep is a child of the sweep's MLflow run; the settings in which it differs are
    its tags.

    Args:
        tracking_uri: the store; default: sqlite at <output>/mlflow.db.
        experiment: MLflow experiment; default: the name of the experiment, or of the sweep.
        output: directory of the runs, or sweeps.
        run: the run to track.
    """

    def __init__(
        self, tracking_uri: str | None, experiment: str | None, output: Path, run: RunInfo
    ) -> None:
        self._run = run
        self._sent: dict[str, set[int]] = {}
        name = experiment or (run.name if run.sweep is None else run.sweep.name)
        with open_experiment(tracking_uri, name, output) as (self._client, experiment_id):
            self._id = self._continue(experiment_id) or self._create(experiment_id)

    def _create(self, experiment_id: str) -> str:
        tags = {"saecore.run": self._run.id, "saecore.directory": str(self._run.directory)}
        name, sweep = self._run.id, self._run.sweep
        if sweep is not None:
            name = self._run.name
            tags["mlflow.parentRunId"] = sweep_run(self._client, experiment_id, sweep)
            tags.update({key: str(value)[:5000] for key, value in sweep.differs.items()})
        created = self._client.create_run(experiment_id, run_name=name, tags=tags)
        self._parameters(created.info.run_id, {})
        return str(created.info.run_id)

    def _continue(self, experiment_id: str) -> str | None:
        """Find the MLflow run of an earlier process, and the metrics that it has."""
        runs = self._client.search_runs([experiment_id], f"tags.`saecore.run` = '{self._run.id}'")
        if not runs:
            return None
        run_id = str(runs[0].info.run_id)
        self._client.update_run(run_id, status="RUNNING")
        self._parameters(run_id, runs[0].data.params)
        for key in runs[0].data.metrics:
            history = self._client.get_metric_history(run_id, key)
            self._sent[key] = {metric.step for metric in history}
        return run_id

    def _parameters(self, run_id: str, known: Mapping[str, str]) -> None:
        """Send settings that the store lacks; MLflow refuses to change one that it has."""
        from mlflow.entities import Param

        params = [
            Param(key.replace("[", ".").replace("]", ""), str(value)[:6000])
            for key, value in self._run.parameters.items()
        ]
        params = [param for param in params if param.key not in known]
        for first in range(0, len(params), 100):
            self._client.log_batch(run_id, params=params[first : first + 100])

    def missing(self) -> list[Any]:
        """Return the metrics of earlier processes that the store lacks."""
        metrics: list[Any] = []
        if not self._run.resumed_at:
            return metrics
        with RunDirectory(self._run.directory).metrics_file.open(encoding="utf-8") as file:
            for line in file:
                try:
                    values = json.loads(line)
                except ValueError:
                    break  # a line that is still being written
                step = values.pop("step")
                if step > self._run.resumed_at:
                    break
                del values["tokens"]
                finite = {key: value for key, value in values.items() if value is not None}
                metrics += self.metrics(step, finite)
        return metrics

    def metrics(self, step: int, values: Mapping[str, float]) -> list[Any]:
        """Convert metrics to MLflow's records, without those that the store has."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        fresh = []
        for name, value in values.items():
            sent = self._sent.get(name)
            if not math.isfinite(value) or (sent is not None and step in sent):
                continue
            if self._run.resumed_at:
                self._sent.setdefault(name, set()).add(step)
            fresh.append(Metric(name, float(value), timestamp=now, step=step))
        return fresh

    def log(self, metrics: list[Any]) -> None:
        """Send metrics, at most 1000."""
        self._client.log_batch(self._id, metrics=metrics)

    def artifact(self, path: Path) -> None:
        """Send a file or directory."""
        if path.is_dir():
            self._client.log_artifacts(self._id, str(path), path.name)
        else:
            self._client.log_artifact(self._id, str(path))

    def end(self) -> None:
        """Set the status: finished if the run reached its end."""
        done = RunDirectory(self._run.directory).is_finished
        self._client.set_terminated(self._id, "FINISHED" if done else "KILLED")
