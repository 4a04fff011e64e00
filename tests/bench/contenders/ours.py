"""saecore's training step, as `saecore run` does it: `Trainer.step`, metrics read every 10th step.

The job says which backend of `saecore.ops` is forced ("reference", "cpu", "cuda"); without one
the dispatch chooses, as for users.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tomli_w
import torch
from serve import Server, finisher, pool

from saecore.config.experiment import Experiment
from saecore.config.load import load_experiment
from saecore.core.step import Batch
from saecore.ops.dispatch import forced
from saecore.runs.build import build_sae, build_trainer


class Steps:
    """The source of activations: what the parent asks for, step by step."""

    def __init__(self, batches: Iterator[torch.Tensor]) -> None:
        self._batches, self.position = batches, 0

    def seek(self, position: int) -> None:
        """Nothing here depends on the position."""

    def next(self, size: int) -> Batch:
        """The next batch."""
        inputs = next(self._batches)
        return Batch(inputs, inputs)


def main() -> None:
    """Serve."""
    server = Server()
    job = server.job
    with forced(job["backend"]) if job.get("backend") else contextlib.nullcontext():
        experiment = make_experiment(job)
        device = torch.device(job.get("device", "cpu"))
        sae = build_sae(experiment, job["d_in"], job["d_in"], device)
        with torch.no_grad():
            for name, value in job["biases"].items():
                getattr(sae, name).fill_(value)
        batches = pool(job)
        steps = server.steps(lambda n: batches[n % len(batches)], finisher(job))
        trainer = build_trainer(experiment, sae, Steps(steps))
        every = experiment.training.log_every_steps
        loop(trainer.step, lambda: trainer.completed % every == 0 and trainer.read_metrics())


def loop(step: Callable[[], None], log: Callable[[], Any]) -> None:
    """Train until the parent has had enough."""
    while True:
        step()
        log()


def make_experiment(job: dict[str, Any]) -> Experiment:
    """The experiment of the job: its `[sae]` table, and adam with clipping and a warm-up."""
    tables = {
        "dataset": {"type": "synthetic", "features": 8, "d_in": job["d_in"]},
        "sae": {"d_sae": job["d_sae"], **job["sae"]},
        "training": {
            "tokens": 100_000 * job["batch"],
            "batch_size": job["batch"],
            "lr": job["lr"],
            "lr_schedule": {"type": "constant", "warm_up_steps": 100, "decay_steps": 100},
            "autocast": job.get("autocast", False),
        },
    }
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "bench.toml"
        file.write_text(tomli_w.dumps({"name": "bench", **tables}))
        return load_experiment(file)[0]


if __name__ == "__main__":
    main()
