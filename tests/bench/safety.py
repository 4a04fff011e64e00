"""What safety costs: the look at numbers in every step, and a tracker that fails.

    python -m tests.bench.safety [numbers|tracker ...] [--pairs 9]

Pairs in turns in one process; ratios are medians over the pairs. A tracker's time is that of the
training loop with a log line every step (every tenth is the default); what it may take besides at
the end of a run, when what is left is sent, stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import statistics
import tempfile
import time

import torch

from saecore.assembly import make_sae, make_trainer
from saecore.config import structure_experiment
from saecore.plan.measure import _Again
from saecore.runner import run
from saecore.step import Batch
from saecore.trainer import Trainer
from saecore.training import Training
from saecore_plugins.loggers import mlflow, mlflow_store
from tests.faults.trackers import Dead, Locked, Slow

SHAPES = ((256, 2048, 2048), (512, 8192, 2048), (768, 8192, 1024))
"""d_in, d_sae, batch."""
STEPS = 10
"""Steps of each in one pair of `numbers`."""


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.safety", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="numbers|tracker")
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    parts = {"numbers": numbers, "tracker": tracker}
    for part in options.parts or parts:
        parts[part](options.pairs)


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
        source = _Again(Batch(rows := torch.randn(size, d_in), rows))

        def trainer(settings=settings, source=source, d_in=d_in) -> Trainer:
            sae = make_sae(settings, d_in, d_in, torch.device("cpu"), "bench")
            return make_trainer(settings, sae, source, "bench")

        looking, blind = trainer(), trainer()
        blind._good = lambda *_: True
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


def tracker(pairs: int) -> None:
    """Training with a tracker that fails and with none."""
    real, loop = mlflow_store.Store, []
    steps = Training.steps

    def timed(self):
        begin = time.perf_counter()
        yield from steps(self)
        loop.append(time.perf_counter() - begin)

    Training.steps = timed
    mlflow.CLOSE_SECONDS = 2.0
    for store in (real, Dead, Slow, Locked):
        ratios, ends = [], []
        place = tempfile.mkdtemp()  # one database for all runs; the first pair makes it
        for number in range(pairs + 1):
            taken = {}
            for loggers in ([{"type": "mlflow"}], []) if number % 2 else ([], [{"type": "mlflow"}]):
                mlflow_store.Store = store
                with quiet():
                    begin = time.perf_counter()
                    run(experiment(logger=loggers, output=f"{place}/runs"))
                    taken[bool(loggers)] = loop[-1], time.perf_counter() - begin - loop[-1]
            ratios.append(taken[True][0] / taken[False][0])
            ends.append(taken[True][1] - taken[False][1])
        shutil.rmtree(place)
        cost, end = statistics.median(ratios[1:]) - 1, statistics.median(ends[1:])
        print(f"tracker {store.__name__}: training {cost:+.2%} (at most 2 %), end {end:+.1f} s")
    mlflow_store.Store, Training.steps = real, steps


@contextlib.contextmanager
def quiet():
    """Say nothing."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


if __name__ == "__main__":
    main()
