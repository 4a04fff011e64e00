"""What safety costs: the look at numbers in every step, and a tracker that fails.

    python -m tests.bench.safety [numbers|tracker ...] [--pairs 9]

Pairs in turns in one process; ratios are medians over the pairs. A tracker's is that of the
training loop with a log line every step (every tenth is the default).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from saecore.config import structure_experiment
from saecore.core.logger import RunInfo
from saecore.core.step import Batch
from saecore.runs.build import build_sae, build_trainer
from saecore.runs.loggers import Loggers, MetricsFile
from saecore.runs.loop import TrainLoop
from saecore.runs.planning.profile import _ConstantStore
from saecore.runs.signals import Signals
from saecore.training.trainer import Trainer
from saecore_plugins.loggers import mlflow, mlflow_store
from tests.faults.trackers import Dead, Locked, Slow

SHAPES = ((256, 2048, 2048), (512, 8192, 2048), (768, 8192, 1024))
"""d_in, d_sae, batch."""
STEPS = 10
"""Steps of each in one pair of `numbers`."""
TRACKED_STEPS, TURNS = 240, 60
"""Steps of each in one pair of `tracker`, and in how many turns."""
STORES = {"working": mlflow_store.Store, "dead": Dead, "slow": Slow, "locked": Locked}
"""Trackers, by what is the matter with them."""


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.safety", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="numbers|tracker")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--stores", nargs="*", default=list(STORES), choices=list(STORES))
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for part in options.parts or ("numbers", "tracker"):
        if part == "numbers":
            numbers(options.pairs)
        else:
            tracker(options.pairs, options.stores)


def experiment(**sections):
    """The embedded default, short, with other settings in some tables."""
    tables = {
        "name": "safety",
        "model": {"type": "tiny_lm", "hook": "blocks.2.hook_resid_post"},
        "dataset": {"type": "python_corpus"},
        "sae": {"architecture": "topk", "d_sae": 2048, "k": 32},
        "training": {"tokens": 2**15, "batch_size": 1024, "lr": 1e-3, "log_every_steps": 1},
        "evaluation": {"tokens": 2048},
        "logger": [],
    }
    for name, value in sections.items():
        tables[name] = {**tables.get(name, {}), **value} if isinstance(value, dict) else value
    return structure_experiment(tables)


def numbers(pairs: int) -> None:
    """Steps with the look at their numbers and without."""
    for d_in, d_sae, size in SHAPES:
        settings = experiment(sae={"d_sae": d_sae}, training={"batch_size": size})
        store = _ConstantStore(Batch(rows := torch.randn(size, d_in), rows))

        def trainer(settings=settings, store=store, d_in=d_in) -> Trainer:
            sae = build_sae(settings, d_in, d_in, torch.device("cpu"))
            return build_trainer(settings, sae, store)

        looking, blind = trainer(), trainer()
        blind._is_finite = lambda *_: True
        ratios = []
        for number in range(pairs + 1):  # the first warms up
            taken = dict.fromkeys((looking, blind), 0.0)
            for step in range(STEPS):  # step by step, so that noise meets both
                for one in (looking, blind) if (number + step) % 2 else (blind, looking):
                    begin = time.perf_counter()
                    one.step()
                    taken[one] += time.perf_counter() - begin
            ratios.append(taken[looking] / taken[blind])
        told = statistics.median(ratios[1:]) - 1
        print(f"look at numbers, ({d_in}, {d_sae}, {size}): {told:+.2%} of a step (at most 1 %)")


def tracker(pairs: int, stores: list[str]) -> None:
    """A training loop with a tracker, beside one without, some steps each in turns.

    What a working store does late would be counted in the other's turn: it has one long turn.
    """
    mlflow.CLOSE_SECONDS = 1.0
    for name in stores:
        mlflow_store.Store, turns = STORES[name], 1 if name == "working" else TURNS
        ratios = []
        with tempfile.TemporaryDirectory() as place:  # one database; the first pair makes it
            for number in range(pairs + 1):
                with contextlib.ExitStack() as stack:
                    runs = [loop(Path(place, f"{number}-{on}"), on, stack) for on in (False, True)]
                    taken = in_turns(runs, turns)
                ratios.append(taken[1] / taken[0])
        cost = statistics.median(ratios[1:]) - 1
        spread = f"{min(ratios[1:]) - 1:+.2%} to {max(ratios[1:]) - 1:+.2%}"
        print(f"tracker {name}: {cost:+.2%} (at most 2 %; {spread})", flush=True)
    mlflow_store.Store = STORES["working"]


def loop(directory: Path, tracked: bool, stack: contextlib.ExitStack) -> Iterator[None]:
    """The steps of a run that says something after each, on one batch again and again."""
    directory.mkdir()
    settings = experiment(training={"tokens": 2**30})
    d_in, _, size = SHAPES[0]
    store = _ConstantStore(Batch(rows := torch.randn(size, d_in), rows))
    sae = build_sae(settings, d_in, d_in, torch.device("cpu"))
    trainer = build_trainer(settings, sae, store)
    logger = [("mlflow", mlflow.MLflow(mlflow.MLflowConfig(), directory))] if tracked else []
    loggers = Loggers(logger)
    metrics = MetricsFile(directory / "metrics.jsonl")
    stack.callback(metrics.close)
    stack.enter_context(quiet())  # each store's one warning, the last when it is closed
    stack.callback(loggers.call, "close")
    loggers.call(
        "start",
        RunInfo(
            name="safety",
            id=directory.name,
            directory=directory,
            parameters={},
            steps=2**20,
            batch_size=size,
        ),
    )
    run = TrainLoop(
        settings,
        trainer,
        directory / "checkpoints",
        manifest={},
        metrics_file=metrics,
        loggers=loggers,
        signals=Signals(),
        evaluate=None,
    )
    return run.steps()


def in_turns(runs: list[Iterator[None]], turns: int) -> list[float]:
    """Seconds of each, the one in front changing."""
    taken = [0.0] * len(runs)
    for one in runs:  # warms up
        next(one)
    for turn in range(turns):
        for number in (0, 1) if turn % 2 else (1, 0):
            begin = time.perf_counter()
            for _ in range(TRACKED_STEPS // turns):
                next(runs[number])
            taken[number] += time.perf_counter() - begin
    return taken


@contextlib.contextmanager
def quiet():
    """Say nothing."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


if __name__ == "__main__":
    main()
