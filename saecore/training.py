"""The steps of a run and what happens between them: logging, saving, evaluating, stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from saecore.checkpoint import save, step_of
from saecore.config.experiment import Experiment
from saecore.config.training import CheckpointTable
from saecore.errors import NumericsError
from saecore.monitors import Monitors
from saecore.resume import Saved
from saecore.sae import SAE
from saecore.signals import Interrupted, Signals
from saecore.tracking import Loggers, MetricsFile
from saecore.trainer import Trainer


class Training:
    """Trains to the last step; resumed from any checkpoint it leaves the same bits.

    Args:
        experiment: says when to log, save and evaluate.
        trainer: prepared, or with its state restored.
        directory: the run's.
        manifest: what manifests of checkpoints say besides files, such as versions.
        metrics: metrics.jsonl.
        loggers: where figures go too.
        signals: whether to stop.
        evaluate: held-out figures of the present SAE, given the last figures of training; None
            where nothing is to be evaluated.
        waited: seconds so far that were spent for other runs as well; not counted as this one's.
    """

    def __init__(
        self,
        experiment: Experiment,
        trainer: Trainer,
        directory: Path,
        manifest: Mapping[str, Any],
        metrics: MetricsFile,
        loggers: Loggers,
        signals: Signals,
        evaluate: Callable[[Mapping[str, float]], Mapping[str, float]] | None,
        waited: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.table, self.trainer = experiment.training, trainer
        self._manifest = manifest
        self.metrics, self.loggers, self.signals = metrics, loggers, signals
        self._directory = directory / "checkpoints"
        self._evaluate, self._every = evaluate, experiment.evaluation.every_tokens
        self._evaluated, self._waited = 0, waited
        self._monitors = Monitors(experiment.monitor)
        self._due = Due(self.table.checkpoint, self.table.steps)
        self._logged, self._spent = 0, 0.0
        self.saved: Path | None = None
        """The newest checkpoint."""
        self.figures: dict[str, float] = {}
        """The last figures of training."""
        self.seconds = 0.0
        """Time spent in steps, over all processes of the run."""

    def restore(self, saved: Saved) -> None:
        """Take over what a checkpoint says besides the trainer's state."""
        state = saved.state["run"]
        self.figures = dict(state["figures"])
        self._evaluated, self.seconds = state["evaluated"], state["seconds"]
        self.saved = saved.path

    @property
    def saved_step(self) -> int | None:
        """Completed steps in the newest checkpoint."""
        return None if self.saved is None else step_of(self.saved)

    def steps(self) -> Iterator[None]:
        """Train to the end; yields after every step.

        Raises:
            Interrupted: a signal came; what was done until then is saved.
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
            self._save()  # before the last window is read: a longer run goes on with it
        self.signals.check()
        if steps % self.table.log_every_steps:
            self._log_window()

    def log(self, values: Mapping[str, float]) -> None:
        """Write figures to metrics.jsonl and give them to the loggers."""
        self.metrics.write(self.trainer.completed, self.trainer.tokens, values)
        self.loggers.call("scalars", self.trainer.completed, dict(values))

    def _step(self) -> None:
        begin, waited = time.monotonic(), self._waited()
        try:
            self.trainer.step()
        except NumericsError as error:
            raise NumericsError(f"{error}{self._last_good()}") from error
        self.seconds += time.monotonic() - begin - (self._waited() - waited)
        if self.trainer.completed % self.table.log_every_steps == 0:
            self._log_window()
        if self._due(self.trainer.completed):
            self._save()

    def _log_window(self) -> None:
        begin = time.monotonic()
        self.figures = self.trainer.read_metrics()
        self.seconds += time.monotonic() - begin
        tokens = (self.trainer.completed - self._logged) * self.table.batch_size
        spent = max(1e-9, self.seconds - self._spent)
        self.figures["performance/tokens_per_second"] = tokens / spent
        self._spent, self._logged = self.seconds, self.trainer.completed
        self.log(self.figures)
        self._monitors(self.trainer, self.figures)

    def _evaluate_if_due(self) -> None:
        """Evaluate during training; the end has an evaluation of its own."""
        trainer, every = self.trainer, self._every
        final = trainer.completed == self.table.steps
        if self._evaluate is None or not every or final or self.signals.received is not None:
            return
        if trainer.tokens // every <= self._evaluated:
            return
        try:
            with self.signals.deferred(False):
                figures = self._evaluate(self.figures)
        except Interrupted:
            self._save()
            raise
        self._evaluated = trainer.tokens // every
        self.log(figures)

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
                "metrics_length": self.metrics.sync(),
                "figures": self.figures,
                "evaluated": self._evaluated,
                "seconds": self.seconds,
            },
        }
        keep = self.table.checkpoint.keep
        self.saved = save(self._directory, step, state, keep, self._manifest)
        self._due.saved()

    def _last_good(self) -> str:
        if self.saved is None:
            return "; there is no checkpoint yet"
        return f"; the last good checkpoint is {self.saved}"


class Due:
    """When to write a checkpoint."""

    def __init__(self, table: CheckpointTable, steps: int) -> None:
        self._table = table
        self.saved()
        count = min(table.count or 0, steps)
        self._spread = {(i + 1) * steps // count for i in range(count)}
        self.ever = bool(table.every_steps or table.every_minutes or table.count)
        """Whether checkpoints are written at all; there is always one at the end then."""

    def __call__(self, step: int) -> bool:
        """Whether one is due after `step` steps."""
        table = self._table
        return (
            (table.every_steps is not None and step % table.every_steps == 0)
            or step in self._spread
            or 0 < table.every_minutes * 60 <= time.monotonic() - self._since
        )

    def saved(self) -> None:
        """Count the minutes anew."""
        self._since = time.monotonic()


def check_finite(sae: SAE, where: str, remedy: str = "") -> None:
    """Refuse weights that are not finite.

    Raises:
        NumericsError: with the tensor's name.
    """
    for name, tensor in sae.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise NumericsError(
                f"{where}: {name} has values that are not finite; nothing was saved. "
                f"Lower training.lr or check the activations{remedy}"
            )
