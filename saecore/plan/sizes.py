"""The memory of a run, from the sizes of its tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import torch

from saecore.errors import ConfigError
from saecore.ops.chunks import WIDE_CHUNK_BYTES, chunk_rows
from saecore.plan.machine import held, memory_limit
from saecore.plan.record import Lever, Part, Plan
from saecore.sae_config import DTYPES, Shape

if TYPE_CHECKING:
    from saecore.backend import ModelBackend
    from saecore.config.experiment import Experiment

META = torch.device("meta")
FLOAT = 4
ENTRY_BYTES = 64
"""Of one entry of the codes in a step: value, gradient, latent, row, order, counts."""
MODEL_COPIES = 16
"""Tensors of the size of the activations that a layer of the model holds at once."""
ALLOCATOR = 64 * 2**20
"""Of freed RAM that malloc keeps: twice the largest piece that it takes from its heap."""


@attrs.frozen
class Sizes:
    """What memory depends on."""

    d_in: int
    d_out: int
    d_sae: int
    weights: int
    """Bytes of the SAE's parameters."""
    rows: int
    """Tokens that one forward and backward pass goes over."""
    entries: int
    """Active latents per token at the start of training."""
    context_size: int
    vocab_size: int


def make_plan(
    experiment: Experiment,
    backend: ModelBackend,
    d_in: int,
    d_out: int,
    device: torch.device,
) -> Plan:
    """Plan a run whose model is loaded; nothing of the size of the SAE is allocated.

    Args:
        experiment: what to do.
        backend: the language model.
        d_in: size of the activations.
        d_out: size of the targets.
        device: where everything will be.
    """
    sizes = _sizes(experiment, backend, d_in, d_out)
    table, buffer, training = experiment.sae, experiment.buffer, experiment.training
    fills, window = _window(experiment, sizes)
    model, now = _model_bytes(backend), held(device)
    if table.d_sae is not None:
        width = Lever("sae.d_sae", table.d_sae)
    else:
        width = Lever("sae.expansion_factor", float(table.expansion_factor or 0), 1e-3)
    fill = Lever("buffer.tokens", buffer.tokens, sizes.context_size)
    memory = {
        "program": Part(max(0, now - model)),
        "model": Part(min(model, now)),
        "window": Part(window, fill),
        "SAE": Part(sizes.weights, width),
        "gradients": Part(sizes.weights, width),
        "optimizer": Part(round(sizes.weights * _optimizer_share(experiment)), width),
    }
    if device.type != "cuda":
        memory["allocator"] = Part(ALLOCATOR)
        memory["loggers"] = Part(sum(_extra(one.config, sizes) for one in experiment.logger))
    moments = {
        "training": {
            "step": Part(_step(sizes), Lever("training.batch_size", training.batch_size)),
            "model batch": Part(
                buffer.model_batch_size * sizes.context_size * d_in * MODEL_COPIES * FLOAT,
                Lever("buffer.model_batch_size", buffer.model_batch_size),
            ),
            "mixing": Part(window // 6, fill),
        },
        "evaluation": {
            "published copy": Part(sizes.weights, width),
            "evaluator": _evaluator(experiment, sizes),
        },
        "saving": {"copies": Part(_saving(experiment, sizes, memory["optimizer"].bytes), width)},
    }
    steps, batch = training.steps, training.batch_size
    limit = memory_limit(device)
    return Plan(steps * batch, steps, batch, fills, memory, moments, limit, str(device))


def _sizes(experiment: Experiment, backend: ModelBackend, d_in: int, d_out: int) -> Sizes:
    table, training = experiment.sae, experiment.training
    d_sae = table.width(d_in)
    hooks = len(experiment.language_model.read_hooks)
    weights = _weights(experiment, Shape(d_in, d_out, d_sae, DTYPES[table.dtype], META, hooks))
    # Architectures, and activations where those are chosen, call their sparsity k; with the others
    # half of all latents are active at first.
    config = table.plugin.config
    activation = getattr(config, "activation", None)
    k = getattr(config if activation is None else activation.config, "k", None)
    entries = min(int(k), d_sae) if isinstance(k, int | float) else d_sae // 2
    rows = training.batch_size // training.accumulate
    context = experiment.dataset.context_size
    return Sizes(d_in, d_out, d_sae, weights, rows, entries, context, backend.vocab_size)


def _weights(experiment: Experiment, shape: Shape) -> int:
    """Bytes of the parameters, from an SAE that has no memory.

    Where that cannot be built (an architecture looks at values, or will refuse its settings when
    the SAE is made), two matrices and two biases are counted.
    """
    try:
        return _tensor_bytes(experiment.sae.plugin.build(shape).state_dict())
    except (ConfigError, NotImplementedError, RuntimeError):
        return (shape.d_sae + 1) * (shape.d_in + shape.d_out) * shape.dtype.itemsize


def _window(experiment: Experiment, sizes: Sizes) -> tuple[int, int]:
    """Number of fills, and bytes of the window: two fills and what is served of them, a third.

    While they are mixed, half a fill more is held: a sixth of that.
    """
    rows = fill_rows(experiment)
    tokens = experiment.training.steps * experiment.training.batch_size
    fills = max(1, math.ceil(tokens / rows + 0.5))  # half of the first fill waits for the second
    return fills, round(_row_bytes(experiment, sizes) * rows * (1.5 if tokens * 2 <= rows else 3))


def fill_rows(experiment: Experiment) -> int:
    """Rows of a fill of the window."""
    table = experiment.dataset
    kept = len(range(table.context_size)[slice(*(table.positions or (None,)))])
    return max(1, experiment.buffer.tokens // table.context_size) * kept


def _row_bytes(experiment: Experiment, sizes: Sizes) -> int:
    target = sizes.d_out if experiment.language_model.targets else 0
    return FLOAT * (sizes.d_in + target) + 16  # and the token's id and position


def _step(sizes: Sizes) -> int:
    """A sparse step: copies of rows, chunks of pre-activations, entries of the codes."""
    rows = sizes.rows * (sizes.d_in + sizes.d_out) * 4 * FLOAT
    row = sizes.d_sae * FLOAT
    chunks = 4 * min(WIDE_CHUNK_BYTES, row * min(chunk_rows(row), sizes.rows))
    return rows + chunks + sizes.rows * sizes.entries * ENTRY_BYTES


def _saving(experiment: Experiment, sizes: Sizes, optimizer: int) -> int:
    """Copies while files are written.

    safetensors makes bytes of every tensor, then the file of them. For the SAE that is on top of
    the published copy and of W_enc transposed; for a checkpoint on top of copies of everything.
    """
    written = experiment.training.checkpoint.every_steps is not None
    checkpoint = sizes.weights + 3 * optimizer
    return max(round(3.5 * sizes.weights), checkpoint if written else 0)


def _evaluator(experiment: Experiment, sizes: Sizes) -> Part:
    """What the evaluator that holds most of its own says it holds."""
    extra = [_extra(one.config, sizes) for one in experiment.evaluator]
    if not experiment.evaluation.tokens or not any(extra):
        return Part(0)
    most = extra.index(max(extra))
    batch = getattr(experiment.evaluator[most].config, "batch_size", None)
    lever = None if batch is None else Lever(f"evaluator[{most}].batch_size", batch)
    return Part(extra[most], lever)


def _optimizer_share(experiment: Experiment) -> float:
    """Bytes of state per byte of weights, from one step on a small matrix."""
    probe = torch.nn.Parameter(torch.zeros(64, 64))
    probe.grad = torch.zeros_like(probe)
    optimizer = experiment.training.optimizer.build([probe], 1e-3)
    optimizer.step()
    return _tensor_bytes(optimizer.state_dict()) / _tensor_bytes(probe)


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(_tensor_bytes(one) for one in value.values())
    return sum(_tensor_bytes(one) for one in value) if isinstance(value, list | tuple) else 0


def _model_bytes(backend: ModelBackend) -> int:
    model = getattr(backend, "model", None)
    return _tensor_bytes(model.state_dict()) if isinstance(model, torch.nn.Module) else 0


def _extra(config: Any, sizes: Sizes) -> int:
    return int(config.extra_memory(sizes)) if hasattr(config, "extra_memory") else 0
