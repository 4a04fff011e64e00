"""MLflow: parameters, metrics and artifacts, sent from a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.plan import Sizes
    from saecore.tracking import RunInfo, SweepInfo

BATCH = 1000
"""Metrics per request, MLflow's limit."""
FLUSH_SECONDS = 5.0
CLOSE_SECONDS = 60.0
"""How long the end of a run waits for what is still to be sent."""
RETRY_SECONDS = (1.0, 4.0)
"""Waits before a request is made again."""


@attrs.frozen
class MLflowConfig:
    """Where to track."""

    tracking_uri: str | None = None
    """MLflow store; default: sqlite at <output>/mlflow.db."""
    experiment: str | None = None
    """MLflow experiment; default: the name of the experiment, or of the sweep."""

    def extra_memory(self, sizes: Sizes) -> int:
        """What the library takes with an SQLite store, as measured with MLflow 3.17."""
        return 250 * 2**20


class MLflow:
    """Puts everything in a queue; a daemon thread imports MLflow, opens the store and sends.

    The training loop never waits for it. A store that fails is tried again for a while and then
    reported once; what cannot be sent is in metrics.jsonl all the same. A resumed run goes on in
    its MLflow run: what the store lacks is sent from metrics.jsonl, what it has is not sent again.
    """

    def __init__(self, config: MLflowConfig, run_dir: Path) -> None:
        self._config, self._directory = config, run_dir
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=100_000)
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._run: RunInfo | None = None

    def start(self, run: RunInfo) -> None:
        """Begin the thread."""
        self._run = run
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Queue figures."""
        self._put("scalars", (step, dict(values)))

    def artifact(self, path: Path) -> None:
        """Queue a file or directory."""
        self._put("artifact", path)

    def close(self) -> None:
        """Send what is queued and end the run."""
        self._put("close", None)
        self._thread.join(CLOSE_SECONDS)
        missing = []
        if self._thread.is_alive():
            missing.append(f"it has not taken everything within {CLOSE_SECONDS:.0f} s")
        if self._dropped:
            missing.append(f"it was too slow for {self._dropped} lines of figures")
        if missing:
            _warn(f"mlflow: {'; '.join(missing)}; metrics.jsonl is complete")

    def sweep_ended(self, sweep: SweepInfo, report: Path | None, finished: bool) -> None:
        """Give the sweep's run the report, and say how the sweep ended."""
        from saecore_plugins.loggers.mlflow_store import opened, parent

        name = self._config.experiment or sweep.name
        with opened(self._config.tracking_uri, name, sweep.directory.parent) as (client, number):
            run = parent(client, number, sweep)
            if report is not None:
                client.log_artifact(run, str(report))
            client.set_terminated(run, "FINISHED" if finished else "KILLED")

    def _put(self, what: str, value: Any) -> None:
        try:
            self._queue.put_nowait((what, value))
        except queue.Full:
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()  # the oldest goes; metrics.jsonl has it
                self._dropped += 1
            self._put(what, value)

    # -- the thread ------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._send()
        except Exception as error:  # whatever the store does, training goes on
            reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
            _warn(
                f"mlflow tracking stopped: {type(error).__name__}: {reason} "
                "(training and metrics.jsonl go on)"
            )
            while self._queue.get()[0] != "close":
                pass

    def _send(self) -> None:
        assert self._run is not None
        from saecore_plugins.loggers.mlflow_store import Store

        # Opening waits for its lock anyway; what fails there will not get better.
        sweep = self._run.sweep
        # <output>/<name>/<id>, or <output>/<sweep>/<point>/<id>
        output = self._directory.parent.parent if sweep is None else sweep.directory.parent
        store = Store(self._config.tracking_uri, self._config.experiment, output, self._run)
        pending = store.missing()
        closing = False
        deadline = time.monotonic() + FLUSH_SECONDS
        while not closing:
            try:
                what, value = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                what, value = "wait", None
            if what == "scalars":
                pending += store.metrics(*value)
            elif what == "artifact":
                _again(store.artifact, Path(value))
            closing = what == "close"
            late = time.monotonic() > deadline
            while len(pending) >= BATCH or (pending and (closing or late)):
                _again(store.log, pending[:BATCH])
                del pending[:BATCH]
            if late:
                deadline = time.monotonic() + FLUSH_SECONDS
        _again(store.end)


def _again(call: Callable[..., None], *args: Any) -> None:
    """Call, and again after some seconds: a database may be locked for a moment."""
    for wait in RETRY_SECONDS:
        try:
            return call(*args)
        except Exception:
            time.sleep(wait)
    return call(*args)


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


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
