"""One run in an MLflow store, new or continued; imported only by the logger's thread."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.errors import PluginError
from saecore.storage.run_directory import RunDirectory
from saecore_plugins.loggers.mlflow_changes import Changes
from saecore_plugins.loggers.mlflow_names import (
    LONGEST_PARAMETER,
    LONGEST_TAG,
    accepted_experiment,
    accepted_text,
    address,
    artifact_directory,
    is_refused,
    unreachable,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from saecore.core.logger import RunInfo, SweepInfo

LOCK_SECONDS = 300
"""Seconds to wait for another process that is creating the database."""


def store_uri(tracking_uri: str | None, output: Path) -> str:
    """Return the URI of the store: the one that is set, or sqlite at <output>/mlflow.db."""
    return tracking_uri or f"sqlite:///{output.resolve() / 'mlflow.db'}"


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

    Raises:
        PluginError: the server does not answer, or the experiment is deleted.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from filelock import FileLock

    for name in ("alembic", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs a traceback for each request that finds the database locked; the logger retries.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    uri = store_uri(tracking_uri, output)
    dead = unreachable(uri)
    if dead is not None:
        raise PluginError(
            f"no answer from {address(uri)}: {dead}; start the server or correct "
            "logger.tracking_uri"
        )
    with FileLock(lock_file(tracking_uri, output), timeout=LOCK_SECONDS):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(uri)
        name = accepted_experiment(experiment)
        known = client.get_experiment_by_name(name)
        if known is None:
            folder = output.resolve() / "mlartifacts" / artifact_directory(name)
            artifacts = folder.as_uri() if uri.startswith("sqlite:///") else None
            yield client, str(client.create_experiment(name, artifact_location=artifacts))
        elif known.lifecycle_stage != "active":
            raise PluginError(
                f'experiment "{name}" is deleted in this store; run mlflow experiments restore '
                f"--experiment-id {known.experiment_id}, or set logger.experiment"
            )
        else:
            yield client, str(known.experiment_id)


def lock_file(tracking_uri: str | None, output: Path) -> Path:
    """Return the file that is locked while a store is opened.

    MLflow itself fails when several processes or threads create one database at once.
    """
    uri = store_uri(tracking_uri, output)
    local = uri.startswith("sqlite:///")
    folder = Path(uri.removeprefix("sqlite:///")).parent if local else output.resolve()
    return folder / ".mlflow.lock"


def sweep_run(client: MlflowClient, experiment_id: str, sweep: SweepInfo) -> str:
    """Find or create the MLflow run of a sweep; the caller holds the store's lock."""
    directory = str(sweep.directory.resolve())
    # A path may contain a quote, which the search syntax cannot express.
    key = hashlib.sha256(directory.encode()).hexdigest()[:16]
    runs = client.search_runs([experiment_id], f"tags.`saecore.sweep` = '{key}'")
    if runs:
        return str(runs[0].info.run_id)
    tags = {"saecore.sweep": key, "saecore.directory": accepted_text(directory)}
    name = accepted_text(sweep.name)
    return str(client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)


class Store:
    """Finds or creates the MLflow run with this run's id.

    A point of a sweep is a child of the sweep's MLflow run; the settings in which it differs are
    its tags. What MLflow refuses is renamed or left out; `losses` says what.

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
        self._params: Mapping[str, str] = {}
        self._changes = Changes()
        name = experiment or (run.name if run.sweep is None else run.sweep.name)
        with open_experiment(tracking_uri, name, output) as (self._client, experiment_id):
            self._id = self._continue(experiment_id) or self._create(experiment_id)

    def _create(self, experiment_id: str) -> str:
        """Create the MLflow run with the tags by which it is found."""
        tags = {"saecore.run": self._tag()}
        name, sweep = self._run.id, self._run.sweep
        if sweep is not None:
            name = self._run.name
            tags["mlflow.parentRunId"] = sweep_run(self._client, experiment_id, sweep)
        created = self._client.create_run(experiment_id, run_name=accepted_text(name), tags=tags)
        return str(created.info.run_id)

    def _continue(self, experiment_id: str) -> str | None:
        """Find the MLflow run of an earlier process, and the metrics that it has."""
        value = self._tag()
        quote = '"' if "'" in value else "'"
        runs = self._client.search_runs(
            [experiment_id], f"tags.`saecore.run` = {quote}{value}{quote}"
        )
        if not runs:
            return None
        run_id = str(runs[0].info.run_id)
        self._client.update_run(run_id, status="RUNNING")
        self._params = runs[0].data.params
        for key in runs[0].data.metrics:
            history = self._client.get_metric_history(run_id, key)
            self._sent[key] = {metric.step for metric in history}
        return run_id

    def _tag(self) -> str:
        """The run's id, in which the search syntax can quote at most one kind of quotes."""
        text = accepted_text(self._run.id)
        return text.replace('"', "'") if "'" in text else text

    def describe(self) -> None:
        """Send tags, and the settings that the store lacks: it refuses to change one it has."""
        from mlflow.entities import Param, RunTag

        changes, sweep = self._changes, self._run.sweep
        differs = {} if sweep is None else sweep.differs
        settings = {"saecore.directory": self._run.directory, **differs}
        tags = [
            RunTag(changes.key(key), changes.text(key, value, LONGEST_TAG))
            for key, value in settings.items()
        ]
        params = [
            Param(changes.key(key), changes.text(key, value, LONGEST_PARAMETER))
            for key, value in self._run.parameters.items()
        ]
        params = [param for param in params if param.key not in self._params]
        for kind, items in (("tags", tags), ("params", params)):
            for first in range(0, len(items), 100):
                self._send(kind, items[first : first + 100])

    def _send(self, kind: str, items: Sequence[Any]) -> None:
        """Send a batch; what the store refuses is left out, the rest arrives.

        Args:
            kind: tags, params or metrics.
            items: at most 100, or 1000 metrics.
        """
        if not items:
            return
        try:
            self._client.log_batch(self._id, **{kind: items})
        except Exception as error:
            if not is_refused(error) or not self._is_active():
                raise
            if len(items) == 1:
                self._changes.leave_out(items[0].key, error)
                return
            half = len(items) // 2
            self._send(kind, items[:half])
            self._send(kind, items[half:])

    def _is_active(self) -> bool:
        """Whether the MLflow run takes anything; somebody may have deleted it."""
        return bool(self._client.get_run(self._id).info.lifecycle_stage == "active")

    def losses(self) -> list[str]:
        """Say what was renamed, changed and left out, in one phrase each."""
        return self._changes.phrases()

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
        for full_name, value in values.items():
            name = self._changes.key(full_name)
            sent = self._sent.get(name)
            if not math.isfinite(value) or (sent is not None and step in sent):
                continue
            if self._run.resumed_at:
                self._sent.setdefault(name, set()).add(step)
            fresh.append(Metric(name, float(value), timestamp=now, step=step))
        return fresh

    def log(self, metrics: list[Any]) -> None:
        """Send metrics, at most 1000."""
        self._send("metrics", metrics)

    def leave_out(self, path: Path, error: Exception) -> None:
        """Note that a file or directory could not be sent."""
        self._changes.leave_out(path.name, error)

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
