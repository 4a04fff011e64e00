"""A short measurement on the real model and the real shapes, over random tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor

from saecore.assembly import make_sae, make_trainer
from saecore.backend import ModelBackend
from saecore.plan.machine import begin_peak, held, peak
from saecore.step import Batch

if TYPE_CHECKING:
    from saecore.config.experiment import Experiment
    from saecore.plan.record import Plan

BUDGET = 1.5
"""Seconds for the model, and for the steps; each is done at least once."""


@attrs.frozen
class Measurement:
    """What the model and the SAE were seen to take."""

    seconds_per_token: float
    """Of the model, for one token's activations."""
    seconds_per_step: float
    """Of the SAE and its optimizer."""
    memory: Mapping[str, int]
    """Bytes of the parts `step` and `model batch` of the moment of training."""


def measure(
    experiment: Experiment,
    backend: ModelBackend,
    plan: Plan,
    device: torch.device,
    source: str,
) -> Measurement:
    """Run some model batches and train some steps on what they give.

    Nothing is read from disk and nothing is written. The SAE is as it is at the start of
    training, when architectures without a fixed k are slowest; no latent is dead yet.

    Args:
        experiment: what is planned.
        backend: the language model.
        plan: the plan so far; see first that it fits.
        device: where everything is.
        source: where the experiment comes from, for error messages.
    """
    memory: dict[str, int] = {}
    found, per_token = _model(experiment, backend, device, memory)
    model, training = experiment.language_model, experiment.training

    def rows(hooks: tuple[str, ...]) -> Tensor:
        read = [_rows(found[hook], model.head, training.batch_size) for hook in hooks]
        return read[0] if len(read) == 1 else torch.stack(read, dim=1)

    inputs = rows(model.read_hooks)
    targets = rows(model.targets) if model.targets else inputs
    d_in, d_out = inputs[0].numel(), targets[0].numel()
    found.clear()

    before, watched = held(device), begin_peak(device)
    sae = make_sae(experiment, d_in, d_out, device, source)
    stream: Any = _Again(Batch(inputs, targets))
    trainer = make_trainer(experiment, sae, stream, source)
    seconds = _timed(trainer.step, device)  # the first allocates gradients and optimizer state
    if seconds < BUDGET:
        later = [_timed(trainer.step, device)]
        while sum(later) + later[-1] < BUDGET:
            later.append(_timed(trainer.step, device))
        seconds = sum(later) / len(later)
    if watched:
        weights = sum(plan.memory[name].bytes for name in ("SAE", "gradients", "optimizer"))
        memory["step"] = max(0, peak(device) - before - weights)
    return Measurement(per_token, seconds, memory)


def _model(
    experiment: Experiment, backend: ModelBackend, device: torch.device, memory: dict[str, int]
) -> tuple[dict[str, Tensor], float]:
    """Activations of one batch by hook, and seconds per token; adds the memory."""
    model, context = experiment.language_model, experiment.dataset.context_size
    hooks = tuple(dict.fromkeys((*model.read_hooks, *model.targets)))
    randomness = torch.Generator().manual_seed(0)

    found: dict[str, Tensor] = {}

    def run(contexts: int) -> float:
        tokens = torch.randint(backend.vocab_size, (contexts, context), generator=randomness)
        return _timed(lambda: found.update(backend.activations(tokens, hooks)), device)

    run(1)  # the first loads kernels
    one = run(1)
    wanted = experiment.buffer.model_batch_size
    contexts = max(1, min(wanted, int(BUDGET / max(one, 1e-9))))  # a slow model: fewer contexts
    before, watched = held(device), begin_peak(device)
    seconds = run(contexts)
    if watched:
        memory["model batch"] = (peak(device) - before) * wanted // contexts
    if seconds < BUDGET / 2:
        seconds = run(contexts)
    return found, seconds / (contexts * context)


def _rows(value: Tensor, head: int | None, count: int) -> Tensor:
    """`count` rows `[count, d]` of activations `[B, T, *d]`, from the beginning again if needed."""
    if value.dim() == 4:
        value = value.flatten(2) if head is None else value[:, :, head]
    rows = value.reshape(-1, value.shape[-1]).float()
    return rows[torch.arange(count, device=rows.device) % len(rows)]


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that some work takes, on the device too."""
    began = time.monotonic()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - began


class _Again:
    """An `ActivationSource` that gives the same batch again and again."""

    position = 0

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def seek(self, position: int) -> None:
        """Nothing changes."""

    def next(self, size: int) -> Batch:
        """The batch."""
        return self._batch
