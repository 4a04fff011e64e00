"""One run in an MLflow store, new or continued. Imported by the logger's thread only."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saecore.tracking import RunInfo

LOCK_SECONDS = 300
"""How long to wait for another process that is making the database."""


class Store:
    """Finds the MLflow run that bears this run's id, or makes one.

    Args:
        tracking_uri: the store; None: sqlite at <output>/mlflow.db.
        experiment: MLflow experiment; None: the experiment's name.
        output: directory of the runs.
        run: what is tracked.
    """

    def __init__(
        self, tracking_uri: str | None, experiment: str | None, output: Path, run: RunInfo
    ) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from filelock import FileLock

        for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
            logging.getLogger(name).setLevel(logging.ERROR)
        output = output.resolve()
        uri = tracking_uri or f"sqlite:///{output / 'mlflow.db'}"
        local = uri.startswith("sqlite:///")
        place = Path(uri.removeprefix("sqlite:///")).parent if local else output
        self._run = run
        self._sent: dict[str, set[int]] = {}
        # MLflow alone fails when several processes make one database at once.
        with FileLock(place / ".mlflow.lock", timeout=LOCK_SECONDS):
            from mlflow.tracking import MlflowClient

            self._client = MlflowClient(uri)
            name = experiment or run.name
            found = self._client.get_experiment_by_name(name)
            if found is None:
                artifacts = (output / "mlartifacts" / name).as_uri() if local else None
                number = self._client.create_experiment(name, artifact_location=artifacts)
            else:
                number = found.experiment_id
            self._id = self._continued(number) or self._new(number)

    def _new(self, experiment: str) -> str:
        tags = {"saecore.run": self._run.id, "saecore.directory": str(self._run.directory)}
        created = self._client.create_run(experiment, run_name=self._run.id, tags=tags)
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
