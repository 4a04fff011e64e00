"""MLflow: parameters, metrics and artifacts, sent from a thread of its own."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.plan import Sizes
    from saecore.tracking import RunInfo

BATCH = 1000
"""Metrics per request, MLflow's limit."""
FLUSH_SECONDS = 5.0
CLOSE_SECONDS = 60.0
"""How long the end of a run waits for what is still to be sent."""


@attrs.frozen
class MLflowConfig:
    """Where to track."""

    tracking_uri: str | None = None
    """MLflow store; default: sqlite at <output>/mlflow.db."""
    experiment: str | None = None
    """MLflow experiment; default: the experiment's name."""

    def extra_memory(self, sizes: Sizes) -> int:
        """What the library takes with an SQLite store, as measured with MLflow 3.17."""
        return 250 * 2**20


class MLflow:
    """Puts everything in a queue; a daemon thread imports MLflow, opens the store and sends.

    The training loop never waits for it. A store that fails is reported once; what cannot be
    sent is in metrics.jsonl all the same.
    """

    def __init__(self, config: MLflowConfig, run_dir: Path) -> None:
        self._config, self._output = config, run_dir.parent.parent
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=100_000)
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._run: RunInfo | None = None

    def start(self, run: RunInfo) -> None:
        """Begin the thread."""
        self._run = run
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Queue figures."""
        self._put("scalars", (step, int(time.time() * 1000), dict(values)))

    def artifact(self, path: Path) -> None:
        """Queue a file or directory."""
        self._put("artifact", path)

    def close(self) -> None:
        """Send what is queued and end the run."""
        self._put("close", None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            print(
                f"warning: mlflow has not taken everything within {CLOSE_SECONDS:.0f} s; "
                "metrics.jsonl is complete",
                file=sys.stderr,
            )

    def _put(self, what: str, value: Any) -> None:
        try:
            self._queue.put_nowait((what, value))
        except queue.Full:
            self._queue.get_nowait()  # the oldest goes; metrics.jsonl has it
            self._queue.put_nowait((what, value))

    # -- the thread ------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._send()
        except Exception as error:  # whatever the store does, training goes on
            reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
            print(
                f"warning: mlflow tracking stopped: {type(error).__name__}: {reason} "
                "(training and metrics.jsonl go on)",
                file=sys.stderr,
            )
            while self._queue.get()[0] != "close":
                pass

    def _send(self) -> None:
        assert self._run is not None
        client, run_id = self._open(self._run)
        pending: list[Any] = []
        closing = False
        deadline = time.monotonic() + FLUSH_SECONDS
        while not closing:
            try:
                what, value = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                what, value = "wait", None
            if what == "scalars":
                pending += self._metrics(*value)
            elif what == "artifact":
                if Path(value).is_dir():
                    client.log_artifacts(run_id, str(value), Path(value).name)
                else:
                    client.log_artifact(run_id, str(value))
            closing = what == "close"
            while len(pending) >= BATCH or (pending and (closing or time.monotonic() > deadline)):
                client.log_batch(run_id, metrics=pending[:BATCH])
                del pending[:BATCH]
            if time.monotonic() > deadline:
                deadline = time.monotonic() + FLUSH_SECONDS
        client.set_terminated(run_id)

    @staticmethod
    def _metrics(step: int, timestamp: int, values: Mapping[str, float]) -> list[Any]:
        import math

        from mlflow.entities import Metric

        return [
            Metric(name, float(value), timestamp, step)
            for name, value in values.items()
            if math.isfinite(value)
        ]

    def _open(self, run: RunInfo) -> tuple[Any, str]:
        """Create the store (under a lock: MLflow alone fails when several do), experiment, run."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from filelock import FileLock

        for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
            logging.getLogger(name).setLevel(logging.ERROR)
        output = self._output.resolve()
        uri = self._config.tracking_uri or f"sqlite:///{output / 'mlflow.db'}"
        with FileLock(output / ".mlflow.lock", timeout=300):
            from mlflow.entities import Param
            from mlflow.tracking import MlflowClient

            client = MlflowClient(uri)
            name = self._config.experiment or run.name
            found = client.get_experiment_by_name(name)
            if found is None:
                local = uri.startswith("sqlite:")
                place = (output / "mlartifacts" / name).as_uri() if local else None
                experiment_id = client.create_experiment(name, artifact_location=place)
            else:
                experiment_id = found.experiment_id
        tags = {"saecore.run": run.id, "saecore.directory": str(run.directory)}
        created = client.create_run(experiment_id, run_name=run.id, tags=tags)
        params = [
            Param(key.replace("[", ".").replace("]", ""), str(value)[:6000])
            for key, value in run.parameters.items()
        ]
        for at in range(0, len(params), 100):
            client.log_batch(created.info.run_id, params=params[at : at + 100])
        return client, created.info.run_id


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the logger."""
    yield Component(
        kind="logger",
        name="mlflow",
        config=MLflowConfig,
        build=MLflow,
        summary="MLflow tracking; by default SQLite at <output>/mlflow.db",
    )
