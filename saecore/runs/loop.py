"""The training loop: steps, and between them logging, saving, evaluating and stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from saecore.config.experiment import Experiment
from saecore.config.training import CheckpointTable
from saecore.core.sae import SAE
from saecore.errors import NumericsError
from saecore.runs.loggers import Loggers, MetricsFile
from saecore.runs.resume import SavedState
from saecore.runs.signals import Interrupted, Signals
from saecore.storage.checkpoint import save, step_of
from saecore.training.monitors import Monitors
from saecore.training.trainer import Trainer


class TrainLoop:
    """Trains to the last step; resumed from any checkpoint it ends with identical bits.

    Args:
        experiment: decides when to log, save and evaluate.
        trainer: the trainer, prepared or restored from a checkpoint.
        checkpoints: the directory of the run's checkpoints.
        manifest: additional entries of checkpoint manifests, such as versions.
        metrics_file: metrics.jsonl.
        loggers: receive the metrics too.
        signals: tells when to stop.
        evaluate: evaluates the current SAE, given the last training metrics; None turns evaluation
            off.
        waited: returns the seconds spent so far on work for other runs as well, which do not count
            as this run's.
    """

    def __init__(
        self,
        experiment: Experiment,
        trainer: Trainer,
        checkpoints: Path,
        *,
        manifest: Mapping[str, Any],
        metrics_file: MetricsFile,
        loggers: Loggers,
        signals: Signals,
        evaluate: Callable[[Mapping[str, float]], Mapping[str, float]] | None,
        waited: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.table, self.trainer = experiment.training, trainer
        self._checkpoints, self._manifest = checkpoints, manifest
        self._metrics_file, self.loggers, self.signals = metrics_file, loggers, signals
        self._evaluate, self._every = evaluate, experiment.evaluation.every_tokens
        self._evaluated, self._waited = 0, waited
        self._monitors = Monitors(experiment.monitor)
        self._due = Due(self.table.checkpoint, self.table.steps)
        self._logged, self._spent = 0, 0.0
        self.saved: Path | None = None
        """The newest checkpoint."""
        self.metrics: dict[str, float] = {}
        """The last training metrics."""
        self.seconds = 0.0
        """Time spent in steps, over all processes of the run."""

    def restore(self, saved: SavedState) -> None:
        """Restore the loop's state from a checkpoint; the trainer's is restored separately."""
        state = saved.state["run"]
        self.metrics = dict(state["figures"])
        self._evaluated, self.seconds = state["evaluated"], state["seconds"]
        self.saved = saved.path

    @property
    def saved_step(self) -> int | None:
        """Completed steps in the newest checkpoint."""
        return None if self.saved is None else step_of(self.saved)

    def steps(self) -> Iterator[None]:
        """Train to the last step; yields after every step.

        Raises:
            Interrupted: a signal arrived; all completed steps are saved.
            NumericsError: see `Trainer.step`; the message names the last good checkpoint.
        """
        steps = self.table.steps
        self._logged, self._spent = self.trainer.completed, self.seconds
        while True:
            self._evaluate_if_due()
            if self.signals.received is not None or self.trainer.completed == steps:
                break
            self._step()
            yield
        if self.signals.received is not None or self._due.ever:
            self._save()  # before the last interval is logged: a longer run continues it
        self.signals.check()
        if steps % self.table.log_every_steps:
            self._log_interval()

    def log(self, values: Mapping[str, float]) -> None:
        """Write metrics to metrics.jsonl and pass them to the loggers."""
        self._metrics_file.write(self.trainer.completed, self.trainer.tokens, values)
        self.loggers.call("scalars", self.trainer.completed, dict(values))

    def _step(self) -> None:
        begin, waited = time.monotonic(), self._waited()
        try:
            self.trainer.step()
        except NumericsError as error:
            raise NumericsError(f"{error}{self._last_good()}") from error
        self.seconds += time.monotonic() - begin - (self._waited() - waited)
        if self.trainer.completed % self.table.log_every_steps == 0:
            self._log_interval()
        if self._due(self.trainer.completed):
            self._save()

    def _log_interval(self) -> None:
        begin = time.monotonic()
        self.metrics = self.trainer.read_metrics()
        self.seconds += time.monotonic() - begin
        tokens = (self.trainer.completed - self._logged) * self.table.batch_size
        spent = max(1e-9, self.seconds - self._spent)
        self.metrics["performance/tokens_per_second"] = tokens / spent
        self._spent, self._logged = self.seconds, self.trainer.completed
        self.log(self.metrics)
        self._monitors(self.trainer, self.metrics)

    def _evaluate_if_due(self) -> None:
        """Evaluate during training; after the last step, `TrainingRun.finish` evaluates."""
        trainer, every = self.trainer, self._every
        final = trainer.completed == self.table.steps
        if self._evaluate is None or not every or final or self.signals.received is not None:
            return
        if trainer.tokens // every <= self._evaluated:
            return
        try:
            with self.signals.deferred(False):
                evaluation = self._evaluate(self.metrics)
        except Interrupted:
            self._save()
            raise
        self._evaluated = trainer.tokens // every
        self.log(evaluation)

    def _save(self) -> None:
        """Write a checkpoint, unless the newest one is of this step.

        Raises:
            NumericsError: the weights are not finite; nothing is written.
        """
        step = self.trainer.completed
        if self.saved_step == step:
            return
        check_finite(self.trainer.sae, f"step {step}", self._last_good())
        state = {
            **self.trainer.state_dict(),
            "run": {
                "tokens": self.trainer.tokens,
                "metrics_length": self._metrics_file.sync(),
                "figures": self.metrics,
                "evaluated": self._evaluated,
                "seconds": self.seconds,
            },
        }
        keep = self.table.checkpoint.keep
        self.saved = save(self._checkpoints, step, state, keep, self._manifest)
        self._due.saved()

    def _last_good(self) -> str:
        if self.saved is None:
            return "; there is no checkpoint yet"
        return f"; the last good checkpoint is {self.saved}"


class Due:
    """Decides when to write a checkpoint."""

    def __init__(self, table: CheckpointTable, steps: int) -> None:
        self._table = table
        self.saved()
        count = min(table.count or 0, steps)
        self._spread = {(i + 1) * steps // count for i in range(count)}
        self.ever = table.ever
        """Whether checkpoints are written at all; if so, there is always one at the end."""

    def __call__(self, step: int) -> bool:
        """Whether a checkpoint is due after `step` steps."""
        table = self._table
        return (
            (table.every_steps is not None and step % table.every_steps == 0)
            or step in self._spread
            or 0 < table.every_minutes * 60 <= time.monotonic() - self._since
        )

    def saved(self) -> None:
        """Restart the count of minutes."""
        self._since = time.monotonic()


def check_finite(sae: SAE, where: str, remedy: str = "") -> None:
    """Refuse weights that are not finite.

    Raises:
        NumericsError: names the tensor.
    """
    for name, tensor in sae.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise NumericsError(
                f"{where}: {name} has values that are not finite; nothing was saved. "
                f"Lower training.lr or check the activations{remedy}"
            )
