"""Measure time and memory briefly, with the real model and shapes on random tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor

from saecore.activations.build import hook_site
from saecore.core.model import ModelBackend
from saecore.core.step import Batch
from saecore.runs.build import build_sae, build_trainer
from saecore.runs.planning.machine import begin_peak, held, peak

if TYPE_CHECKING:
    from saecore.config.experiment import Experiment
    from saecore.runs.planning.plan import Plan

BUDGET = 1.5
"""Seconds for the model, and again for the steps; each runs at least once."""


@attrs.frozen
class Measurement:
    """The measured time and memory of model and SAE."""

    seconds_per_token: float
    """Time of the model for one token's activations."""
    seconds_per_step: float
    """Time of SAE and optimizer."""
    memory: Mapping[str, int]
    """Bytes of the items `step` and `model batch` of the moment `training`."""


def measure(
    experiment: Experiment,
    backend: ModelBackend,
    plan: Plan,
    device: torch.device,
) -> Measurement:
    """Run some model batches and train some steps on their activations.

    Nothing is read from disk or written. The SAE is untrained: architectures without a fixed k are
    slowest then, and no latent is dead yet.

    Args:
        experiment: the experiment.
        backend: the language model.
        plan: the plan so far; the caller has checked that it fits.
        device: the device of the run.
    """
    memory: dict[str, int] = {}
    activations, per_token = _model(experiment, backend, device, memory)
    rows = experiment.training.batch_size
    site = hook_site(experiment.language_model, experiment.dataset, backend)
    inputs, targets = site.stack(
        {hook: _repeated(site.read(value), rows) for hook, value in activations.items()}
    )
    d_in, d_out = inputs[0].numel(), targets[0].numel()
    activations.clear()

    before, has_peak = held(device), begin_peak(device)
    sae = build_sae(experiment, d_in, d_out, device)
    store: Any = _ConstantStore(Batch(inputs, targets))
    trainer = build_trainer(experiment, sae, store)
    seconds = _timed(trainer.step, device)  # the first allocates gradients and optimizer state
    if seconds < BUDGET:
        later = [_timed(trainer.step, device)]
        while sum(later) + later[-1] < BUDGET:
            later.append(_timed(trainer.step, device))
        seconds = sum(later) / len(later)
    if has_peak:
        weights = sum(plan.memory[name].bytes for name in ("SAE", "gradients", "optimizer"))
        memory["step"] = max(0, peak(device) - before - weights)
    return Measurement(per_token, seconds, memory)


def _model(
    experiment: Experiment, backend: ModelBackend, device: torch.device, memory: dict[str, int]
) -> tuple[dict[str, Tensor], float]:
    """Return the activations of one batch by hook, and seconds per token; adds the memory."""
    model, context = experiment.language_model, experiment.dataset.context_size
    hooks = tuple(dict.fromkeys((*model.read_hooks, *model.targets)))
    randomness = torch.Generator().manual_seed(0)

    activations: dict[str, Tensor] = {}

    def run(contexts: int) -> float:
        tokens = torch.randint(backend.vocab_size, (contexts, context), generator=randomness)
        return _timed(lambda: activations.update(backend.activations(tokens, hooks)), device)

    run(1)  # the first loads kernels
    per_context = run(1)
    batch_size = experiment.buffer.model_batch_size
    affordable = int(BUDGET / max(per_context, 1e-9))  # a slow model: fewer contexts
    contexts = max(1, min(batch_size, affordable))
    before, has_peak = held(device), begin_peak(device)
    seconds = run(contexts)
    if has_peak:
        memory["model batch"] = (peak(device) - before) * batch_size // contexts
    if seconds < BUDGET / 2:
        seconds = run(contexts)
    return activations, seconds / (contexts * context)


def _repeated(vectors: Tensor, count: int) -> Tensor:
    """`count` rows `[count, d]` of vectors `[B, T, d]`, starting over where they run out."""
    rows = vectors.reshape(-1, vectors.shape[-1]).float()
    return rows[torch.arange(count, device=rows.device) % len(rows)]


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, including its work on the device."""
    began = time.monotonic()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - began


class _ConstantStore:
    """An `ActivationStore` that repeats one batch."""

    position = 0

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def seek(self, position: int) -> None:
        """Do nothing: every position has the same batch."""

    def next(self, size: int) -> Batch:
        """Return the batch."""
        return self._batch
