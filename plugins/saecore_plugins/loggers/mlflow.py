"""MLflow: sends parameters, metrics and artifacts from a background thread."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.errors import warn
from saecore.plugins import Component, hookimpl

if TYPE_CHECKING:
    from saecore.core.logger import RunInfo, SweepInfo
    from saecore.core.run_sizes import RunSizes

BATCH = 1000
"""Metrics per request, MLflow's limit."""
FLUSH_SECONDS = 5.0
CLOSE_SECONDS = 60.0
"""Seconds that the end of a run waits for the queue to be sent."""
RETRY_SECONDS = (1.0, 4.0)
"""Seconds to wait before each retry of a request."""


@attrs.frozen
class MLflowConfig:
    """Where to track."""

    tracking_uri: str | None = None
    """MLflow store; default: sqlite at <output>/mlflow.db."""
    experiment: str | None = None
    """MLflow experiment; default: the name of the experiment, or of the sweep."""

    def extra_memory(self, sizes: RunSizes) -> int:
        """Return the bytes that the library holds with SQLite, measured with MLflow 3.17."""
        return 250 * 2**20


class MLflow:
    """Queues everything; a daemon thread imports MLflow, opens the store and sends.

    The training loop never waits for it. Requests to a failing store are retried for a while, then
    the failure is reported once; metrics.jsonl stays complete. A resumed run continues its MLflow
    run: metrics that the store lacks are sent from metrics.jsonl, the others are not sent again.
    """

    def __init__(self, config: MLflowConfig, run_dir: Path) -> None:
        self._config, self._directory = config, run_dir
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=100_000)
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._run: RunInfo | None = None

    def start(self, run: RunInfo) -> None:
        """Start the thread."""
        self._run = run
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Queue metrics."""
        self._put("scalars", (step, dict(values)))

    def artifact(self, path: Path) -> None:
        """Queue a file or directory."""
        self._put("artifact", path)

    def close(self) -> None:
        """Send the queue and end the MLflow run."""
        self._put("close", None)
        self._thread.join(CLOSE_SECONDS)
        missing = []
        if self._thread.is_alive():
            missing.append(f"the queue was not sent within {CLOSE_SECONDS:.0f} s")
        if self._dropped:
            missing.append(f"the store was too slow for {self._dropped} lines of metrics")
        if missing:
            warn(f"mlflow: {'; '.join(missing)}; metrics.jsonl is complete")

    def sweep_ended(self, sweep: SweepInfo, report: Path | None, finished: bool) -> None:
        """Send the report to the sweep's MLflow run, and set its status."""
        from saecore_plugins.loggers.mlflow_store import open_experiment, sweep_run

        name = self._config.experiment or sweep.name
        output = sweep.directory.parent
        with open_experiment(self._config.tracking_uri, name, output) as (client, experiment_id):
            run_id = sweep_run(client, experiment_id, sweep)
            if report is not None:
                client.log_artifact(run_id, str(report))
            client.set_terminated(run_id, "FINISHED" if finished else "KILLED")

    def _put(self, event: str, value: Any) -> None:
        try:
            self._queue.put_nowait((event, value))
        except queue.Full:
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()  # drop the oldest; metrics.jsonl has it
                self._dropped += 1
            self._put(event, value)

    # -- the thread ------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._send()
        except Exception as error:  # whatever the store does, training continues
            reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
            warn(
                f"mlflow tracking stopped: {type(error).__name__}: {reason} "
                "(training and metrics.jsonl continue)"
            )
            while self._queue.get()[0] != "close":
                pass

    def _send(self) -> None:
        assert self._run is not None
        from saecore_plugins.loggers.mlflow_store import Store

        # Opening waits for the lock anyway; a retry after a failure would not help.
        sweep = self._run.sweep
        # <output>/<name>/<id>, or <output>/<sweep>/<point>/<id>
        output = self._directory.parent.parent if sweep is None else sweep.directory.parent
        store = Store(self._config.tracking_uri, self._config.experiment, output, self._run)
        pending = store.missing()
        closing = False
        deadline = time.monotonic() + FLUSH_SECONDS
        while not closing:
            try:
                event, value = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                event, value = "wait", None
            if event == "scalars":
                pending += store.metrics(*value)
            elif event == "artifact":
                _retry(store.artifact, Path(value))
            closing = event == "close"
            late = time.monotonic() > deadline
            while len(pending) >= BATCH or (pending and (closing or late)):
                _retry(store.log, pending[:BATCH])
                del pending[:BATCH]
            if late:
                deadline = time.monotonic() + FLUSH_SECONDS
        _retry(store.end)


def _retry(call: Callable[..., None], *args: Any) -> None:
    """Call, and retry after some seconds: a database may be locked for a moment."""
    for wait in RETRY_SECONDS:
        try:
            return call(*args)
        except Exception:
            time.sleep(wait)
    return call(*args)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="logger",
        name="mlflow",
        config=MLflowConfig,
        build=MLflow,
        summary="MLflow tracking; by default SQLite at <output>/mlflow.db",
    )
