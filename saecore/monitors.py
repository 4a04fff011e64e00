"""Monitors look at a run when it logs, and say once what goes wrong and what helps."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

import attrs
import torch
from torch import Tensor

from saecore.components import Choice
from saecore.sae import SAE
from saecore.step import Batch, Normalizer
from saecore.trainer import Trainer


@attrs.frozen(eq=False)
class View:
    """What a monitor sees of a run: figures, and the last (part of a) batch."""

    step: int
    """Completed steps."""
    metrics: Mapping[str, float]
    """The figures of this log interval."""
    sae: SAE
    """In its training form, not to be changed."""
    normalizer: Normalizer
    """How activations were scaled."""
    batch: Batch
    """As the SAE saw it, `[N, d_in]` or `[N, hooks, d]`."""
    targets: Tensor
    """What was to be reconstructed `[N, d_out]`."""
    reconstruction: Tensor
    """In the unit of the targets `[N, d_out]`."""

    @cached_property
    def mean_norm(self) -> float:
        """Mean norm of the scaled inputs, over √d."""
        x = self.batch.inputs.float()
        return float(x.norm(dim=-1).mean()) / float(x.shape[-1] ** 0.5)

    @cached_property
    def token_losses(self) -> Tensor:
        """Squared error of each token `[N]`."""
        error = (self.reconstruction - self.targets).float()
        return error.square().flatten(1).sum(-1)


class Monitor(Protocol):
    """What a monitor component builds. It may remember what it saw; a resumed run begins anew."""

    def __call__(self, view: View) -> str | None:
        """Look at a run; a warning with its remedy, or None."""
        ...


class Monitors:
    """All monitors of a run. Each speaks once, on stderr; one that fails never stops a run.

    Args:
        choices: from the experiment.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._silent: list[tuple[str, Monitor]] = [(one.name, one.build()) for one in choices]

    def __call__(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Let those look that have not spoken yet.

        Args:
            trainer: after a step.
            metrics: what it gave for the log.
        """
        if trainer.last is None or not self._silent:
            return
        batch, targets, reconstruction = trainer.last
        view = View(
            trainer.completed,
            metrics,
            trainer.sae,
            trainer.normalizer,
            batch,
            targets,
            reconstruction,
        )
        for name, monitor in list(self._silent):
            try:
                with torch.no_grad():
                    warning = monitor(view)
            except Exception as error:  # a stranger may raise anything
                warning = f"fails and is left out: {type(error).__name__}: {error}"
            if warning is not None:
                self._silent.remove((name, monitor))
                print(f"warning: monitor {name}: step {view.step}: {warning}", file=sys.stderr)
