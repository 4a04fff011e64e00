"""Inspect a run at each log interval; warn once, with a remedy."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import torch

from saecore.core.monitor import Monitor, View
from saecore.plugins.component import Choice
from saecore.training.trainer import Trainer


class Monitors:
    """All monitors of a run. Each warns once, on stderr; one that fails never stops a run.

    Args:
        choices: the monitors that the experiment chooses.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._silent: list[tuple[str, Monitor]] = [
            (choice.name, choice.build()) for choice in choices
        ]

    def __call__(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Run the monitors that have not warned yet.

        Args:
            trainer: the trainer, after a step.
            metrics: the metrics of this log interval.
        """
        if trainer.last is None or not self._silent:
            return
        batch, targets, reconstruction = trainer.last
        view = View(
            step=trainer.completed,
            metrics=metrics,
            sae=trainer.sae,
            normalizer=trainer.normalizer,
            batch=batch,
            targets=targets,
            reconstruction=reconstruction,
        )
        for name, monitor in list(self._silent):
            try:
                with torch.no_grad():
                    warning = monitor(view)
            except Exception as error:  # third-party code may raise anything
                warning = f"failed and is disabled: {type(error).__name__}: {error}"
            if warning is not None:
                self._silent.remove((name, monitor))
                print(f"warning: monitor {name}: step {view.step}: {warning}", file=sys.stderr)
