"""MLflow: sends parameters, metrics and artifacts from a background thread."""

from __future__ import annotations

import contextlib
import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.errors import SaecoreError, warn
from saecore.plugins import Component, hookimpl
from saecore_plugins.loggers.mlflow_names import (
    address,
    is_refused,
    is_server,
    probe,
    reason,
    unreachable,
)

if TYPE_CHECKING:
    from saecore.core.logger import RunInfo, SweepInfo
    from saecore.core.run_sizes import RunSizes
    from saecore_plugins.loggers.mlflow_store import Store

BATCH = 1000
"""Metrics per request, MLflow's limit."""
FLUSH_SECONDS = 5.0
CLOSE_SECONDS = 60.0
"""Seconds without an answered request after which the end of a run waits no longer."""
QUIET_SECONDS = 10.0
"""Seconds that the end of a run waits before it says so."""
LOOK_SECONDS = 3.0
"""Seconds to wait for a server before it is pointed to."""
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

    def look_at(self, output: Path) -> str | None:
        """Return what shows the figures: a command or an address; None if they are not there."""
        uri = self.tracking_uri
        if uri is not None and is_server(uri):
            return None if probe(uri, LOOK_SECONDS) else address(uri)
        if uri is None:
            if not (output / "mlflow.db").exists():
                return None
            uri = f"sqlite:///{output / 'mlflow.db'}"
        if address(uri) != uri:  # no password on a terminal
            return address(uri)
        return shlex.join(
            ["mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--workers", "1"]
        )


class MLflow:
    """Queues everything; a daemon thread imports MLflow, opens the store and sends.

    The training loop never waits for it. Requests to a failing store are retried for a while, then
    the failure is reported once; metrics.jsonl stays complete. What MLflow refuses is renamed or
    left out, and reported at the end. A resumed run continues its MLflow run: metrics that the
    store lacks are sent from metrics.jsonl, the others are not sent again.
    """

    def __init__(self, config: MLflowConfig, run_dir: Path) -> None:
        self._config, self._directory = config, run_dir
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=100_000)
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._run: RunInfo | None = None
        self._store: Store | None = None
        self._answered = time.monotonic()
        """When the store last answered."""
        self._closing = False
        """Whether the thread has taken the last event of the queue."""

    def start(self, run: RunInfo) -> None:
        """Start the thread."""
        self._run, self._answered = run, time.monotonic()
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
        missing = []
        if not self._wait():
            uri = self._uri()
            dead = unreachable(uri) or f"no answer within {CLOSE_SECONDS:.0f} s"
            missing.append(f"{address(uri)}: {dead}; the rest was not sent")
        if self._dropped:
            missing.append(f"the store was too slow for {self._dropped} lines of metrics")
        if missing:
            warn(f"mlflow: {'; '.join(missing)}; metrics.jsonl is complete")

    def _wait(self) -> bool:
        """Wait for the thread as long as the store answers; return whether it has ended."""
        from saecore_plugins.loggers.mlflow_store import LOCK_SECONDS, lock_file

        closed, quiet = time.monotonic(), True
        while True:
            self._thread.join(min(0.5, CLOSE_SECONDS))
            now = time.monotonic()
            if not self._thread.is_alive():
                return True
            # Until the store is open, the thread may be waiting for its lock.
            patience = CLOSE_SECONDS + (LOCK_SECONDS if self._store is None else 0)
            if now > max(closed, self._answered) + patience:
                return False
            if quiet and now > closed + QUIET_SECONDS:
                quiet = False
                lock = lock_file(self._config.tracking_uri, self._output())
                held = f" (another process may hold {lock})" if self._store is None else ""
                print(f"mlflow: waiting for {address(self._uri())}{held}", file=sys.stderr)

    def sweep_ended(self, sweep: SweepInfo, report: Path | None, finished: bool) -> None:
        """Send the report to the sweep's MLflow run, and set its status."""
        from saecore_plugins.loggers.mlflow_store import open_experiment, sweep_run

        name = self._config.experiment or sweep.name
        output = sweep.directory.parent
        with open_experiment(self._config.tracking_uri, name, output) as (client, experiment_id):
            run_id = sweep_run(client, experiment_id, sweep)
            try:
                if report is not None:
                    client.log_artifact(run_id, str(report))
            except Exception as error:
                warn(f"mlflow: {report} is left out: {reason(error)}")
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

    def _output(self) -> Path:
        """The directory of the runs, or sweeps."""
        sweep = None if self._run is None else self._run.sweep
        # <output>/<name>/<id>, or <output>/<sweep>/<point>/<id>
        return self._directory.parent.parent if sweep is None else sweep.directory.parent

    def _uri(self) -> str:
        from saecore_plugins.loggers.mlflow_store import store_uri

        return store_uri(self._config.tracking_uri, self._output())

    def _work(self) -> None:
        try:
            self._send()
        except Exception as error:  # whatever the store does, training continues
            why = str(error) if isinstance(error, SaecoreError) else reason(error)
            where = address(self._uri())
            warn(
                f"mlflow tracking stopped: {why if where in why else f'{where}: {why}'} "
                "(training and metrics.jsonl continue)"
            )
            while not self._closing:
                self._closing = self._queue.get()[0] == "close"
            if self._store is not None:
                with contextlib.suppress(Exception):  # it was reported
                    self._store.end()

    def _send(self) -> None:
        assert self._run is not None
        from saecore_plugins.loggers.mlflow_store import Store

        # Opening waits for the lock anyway; a retry after a failure would not help.
        store = Store(self._config.tracking_uri, self._config.experiment, self._output(), self._run)
        self._store, self._answered = store, time.monotonic()
        self._request(store.describe)
        pending = store.missing()
        deadline = time.monotonic() + FLUSH_SECONDS
        while not self._closing:
            try:
                event, value = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                event, value = "wait", None
            if event == "scalars":
                pending += store.metrics(*value)
            elif event == "artifact":
                try:
                    self._request(store.artifact, Path(value))
                except Exception as error:  # it costs this artifact, not the rest
                    store.leave_out(Path(value), error)
            self._closing = event == "close"
            late = time.monotonic() > deadline
            while len(pending) >= BATCH or (pending and (self._closing or late)):
                self._request(store.log, pending[:BATCH])
                del pending[:BATCH]
            if late:
                deadline = time.monotonic() + FLUSH_SECONDS
        self._request(store.end)
        losses = store.losses()
        if losses:
            warn(f"mlflow: {'; '.join(losses)}; metrics.jsonl is complete")

    def _request(self, call: Callable[..., None], *args: Any) -> None:
        """Call, and retry after some seconds: a database may be locked for a moment."""
        for wait in RETRY_SECONDS:
            try:
                call(*args)
                break
            except Exception as error:
                if is_refused(error) or isinstance(error, FileNotFoundError):
                    raise  # no later try fares better
                time.sleep(wait)
        else:
            call(*args)
        self._answered = time.monotonic()


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="logger",
        name="mlflow",
        config=MLflowConfig,
        build=MLflow,
        summary="MLflow tracking; by default SQLite at <output>/mlflow.db",
    )
