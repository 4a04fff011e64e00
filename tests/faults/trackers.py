"""A tracker that is dead, slow or locked; many runs that begin on one new database."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import time
from pathlib import Path

from saecore.config import structure_experiment
from saecore.runs.run import run
from saecore_plugins.loggers import mlflow, mlflow_store
from tests.faults.report import Row
from tests.faults.small import differences, tables, whole


class Dead:
    """A store that cannot be opened."""

    def __init__(self, *args) -> None:
        raise ConnectionError("no route to the tracking server")


class Slow:
    """A store that takes its time."""

    def __init__(self, *args) -> None:
        pass

    def describe(self) -> None:
        """Nothing."""

    def missing(self) -> list:
        """Nothing."""
        return []

    def losses(self) -> list:
        """None."""
        return []

    def leave_out(self, path, error) -> None:
        """Nothing."""

    def metrics(self, step, values) -> list:
        """As they are."""
        return list(values.items())

    def log(self, metrics) -> None:
        """Take ten seconds."""
        time.sleep(10)

    def artifact(self, path) -> None:
        """Take ten seconds."""
        time.sleep(10)

    def end(self) -> None:
        """Nothing."""


class Locked(Slow):
    """A database that another process holds."""

    def log(self, metrics) -> None:
        """Refuse."""
        raise TimeoutError("database is locked")

    artifact = log


def failing(text: Path, directory: Path, n: int, seed: int) -> Row:
    """Runs with the MLflow logger over stores that fail."""
    row = Row(
        fault="tracker dead, slow (10 s a request), locked",
        must_hold="every figure in metrics.jsonl, one warning, same bits",
    )
    base = tables(text, directory / "whole")
    uninterrupted = whole(base)
    real = mlflow_store.Store, mlflow.CLOSE_SECONDS, mlflow.RETRY_SECONDS
    try:
        mlflow.CLOSE_SECONDS, mlflow.RETRY_SECONDS = 1.0, (0.1, 0.1)
        for store in (Dead, Slow, Locked):
            mlflow_store.Store = store
            base = tables(text, directory / store.__name__, logger=[{"type": "mlflow"}])
            told = io.StringIO()
            with contextlib.redirect_stderr(told):
                result = run(structure_experiment(base))
            row.n += 1
            if told.getvalue().count("warning:") != 1:
                row.failures.append(f"{store.__name__}: {told.getvalue()!r}")
            row.failures += [
                f"{store.__name__}: {one}" for one in differences(result.directory, uninterrupted)
            ]
    finally:
        mlflow_store.Store, mlflow.CLOSE_SECONDS, mlflow.RETRY_SECONDS = real
    return row


START = """
import sys
from pathlib import Path
from saecore.core.logger import RunInfo
from saecore_plugins.loggers.mlflow import MLflow, MLflowConfig
directory = Path(sys.argv[1], "runs", "name", sys.argv[2])
directory.mkdir(parents=True)
(directory / "evaluation.json").write_text("{}")
logger = MLflow(MLflowConfig(), directory)
logger.start(RunInfo(name="name", id=sys.argv[2], directory=directory, steps=10, batch_size=4,
                     parameters={"sae.k": 3}))
for step in range(1, 11):
    logger.scalars(step, {"x": float(step)})
logger.artifact(directory / "evaluation.json")
logger.close()
"""
PROCESSES = 8


def one_new_database(text: Path, directory: Path, n: int, seed: int) -> Row:
    """Eight processes that begin to track at once on a database that does not exist yet."""
    row = Row(
        fault=f"{PROCESSES} runs begin at once on one new tracking database",
        must_hold="every run there, finished, each step once, no warning",
    )
    for i in range(n):
        place = directory / str(i)
        started = [
            subprocess.Popen(
                [sys.executable, "-c", START, str(place), str(one)], stderr=subprocess.PIPE
            )
            for one in range(PROCESSES)
        ]
        for one in started:
            _, told = one.communicate()
            if one.returncode or b"warning" in told:
                row.failures.append(f"round {i}: {told.decode()[-300:]}")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{place / 'runs' / 'mlflow.db'}")
        found = client.search_runs([client.get_experiment_by_name("name").experiment_id])
        for one in found:
            steps = [m.step for m in client.get_metric_history(one.info.run_id, "x")]
            if sorted(steps) != list(range(1, 11)) or one.info.status != "FINISHED":
                row.failures.append(f"round {i}: {steps} {one.info.status}")
        if len(found) != PROCESSES:
            row.failures.append(f"round {i}: {len(found)} runs")
        row.n += PROCESSES
    return row
