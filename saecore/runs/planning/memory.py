"""Count the memory of a run from the sizes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import torch

from saecore.core.run_sizes import RunSizes
from saecore.core.sae_config import DTYPES, Shape
from saecore.errors import ConfigError
from saecore.ops.chunks import WIDE_CHUNK_BYTES, chunk_rows
from saecore.runs.planning.machine import held, memory_limit
from saecore.runs.planning.plan import MemoryItem, MemoryKnob, Plan

if TYPE_CHECKING:
    from saecore.config.experiment import Experiment
    from saecore.core.model import ModelBackend

META = torch.device("meta")
FLOAT = 4
"""Bytes of a float32."""
ENTRY_BYTES = 64
"""Bytes per entry of the codes in a step: value, gradient, latent, row, order, counts."""
MODEL_COPIES = 16
"""Tensors of the size of the activations that a layer of the model holds at once."""
MASKS = 3
"""Masks, of a byte per value, that `torch.isfinite` holds besides a tensor of absolute values."""
ALLOCATOR = 64 * 2**20
"""Bytes of freed memory that malloc keeps: twice the largest piece that it takes from its heap."""
PER_RUN = ("SAE", "gradients", "optimizer")
"""Items that every run of a sweep has separately; the others are shared."""


def make_plan(
    experiment: Experiment,
    backend: ModelBackend,
    d_in: int,
    d_out: int,
    device: torch.device,
) -> Plan:
    """Plan a run whose model is loaded; nothing of the size of the SAE is allocated.

    Args:
        experiment: the experiment.
        backend: the language model.
        d_in: size of the activations that the SAE reads.
        d_out: size of the activations that it reconstructs.
        device: the device of the run.
    """
    parameters = _parameter_bytes(experiment, d_in, d_out)
    sizes = _sizes(experiment, backend, d_in, d_out, sum(parameters))
    training = experiment.training
    fills, buffer = _buffer(experiment, sizes)
    model, now = _model_bytes(backend), held(device)
    width, fill = _width_knob(experiment), _fill_knob(experiment)
    memory = {
        "program": MemoryItem(max(0, now - model)),
        "model": MemoryItem(min(model, now)),
        "window": MemoryItem(buffer, fill),
        "SAE": MemoryItem(sizes.weights, width),
        "gradients": MemoryItem(sizes.weights, width),
        "optimizer": MemoryItem(round(sizes.weights * _optimizer_share(experiment)), width),
    }
    if device.type != "cuda":
        loggers = sum(_extra(choice.config, sizes) for choice in experiment.logger)
        memory["allocator"] = MemoryItem(ALLOCATOR)
        memory["loggers"] = MemoryItem(loggers)
    return Plan(
        tokens=training.steps * training.batch_size,
        steps=training.steps,
        batch_size=training.batch_size,
        fills=fills,
        memory=memory,
        moments=_moments(experiment, sizes, buffer, largest=max(parameters)),
        limit=memory_limit(device),
        device=str(device),
    )


def _moments(
    experiment: Experiment, sizes: RunSizes, buffer: int, largest: int
) -> dict[str, dict[str, MemoryItem]]:
    """Count what training, evaluation and saving hold besides.

    Saving: every run ends by saving its SAE, beside the exported copy. A checkpoint takes less,
    because it refers to the tensors in training. Either checks and writes one tensor at a time:
    `torch.isfinite` holds more than the row-major copy of W_enc that is written.
    """
    table, batch_size = experiment.buffer, experiment.training.batch_size
    width, fill = _width_knob(experiment), _fill_knob(experiment)
    model_batch = table.model_batch_size * sizes.context_size * sizes.d_in * MODEL_COPIES * FLOAT
    copy, itemsize = MemoryItem(sizes.weights, width), DTYPES[experiment.sae.dtype].itemsize
    return {
        "training": {
            "step": MemoryItem(_step(sizes), MemoryKnob("training.batch_size", batch_size)),
            "model batch": MemoryItem(
                model_batch, MemoryKnob("buffer.model_batch_size", table.model_batch_size)
            ),
            "mixing": MemoryItem(buffer // 6, fill),
        },
        "evaluation": {"published copy": copy, "evaluator": _evaluator(experiment, sizes)},
        "saving": {
            "published copy": copy,
            "copies": MemoryItem(largest + MASKS * largest // itemsize, width),
        },
    }


def _width_knob(experiment: Experiment) -> MemoryKnob:
    table = experiment.sae
    if table.d_sae is not None:
        return MemoryKnob("sae.d_sae", table.d_sae)
    return MemoryKnob("sae.expansion_factor", float(table.expansion_factor or 0), 1e-3)


def _fill_knob(experiment: Experiment) -> MemoryKnob:
    return MemoryKnob("buffer.tokens", experiment.buffer.tokens, experiment.dataset.context_size)


def _sizes(
    experiment: Experiment, backend: ModelBackend, d_in: int, d_out: int, weights: int
) -> RunSizes:
    table, training = experiment.sae, experiment.training
    d_sae = table.width(d_in)
    # Architectures, or activations if those are chosen, call their sparsity k; with the others
    # half of all latents are active at first.
    config = table.architecture.config
    activation = getattr(config, "activation", None)
    k = getattr(config if activation is None else activation.config, "k", None)
    return RunSizes(
        d_in=d_in,
        d_out=d_out,
        d_sae=d_sae,
        weights=weights,
        rows=training.batch_size // training.accumulate,
        entries=min(int(k), d_sae) if isinstance(k, int | float) else d_sae // 2,
        context_size=experiment.dataset.context_size,
        vocab_size=backend.vocab_size,
    )


def _parameter_bytes(experiment: Experiment, d_in: int, d_out: int) -> list[int]:
    """Return the bytes of each parameter, from an SAE on the meta device.

    If that cannot be built (an architecture looks at values, or will refuse its settings when the
    SAE is built), two matrices and two biases are counted.
    """
    table, hooks = experiment.sae, len(experiment.language_model.read_hooks)
    d_sae, dtype = table.width(d_in), DTYPES[table.dtype]
    shape = Shape(d_in, d_out, d_sae, dtype=dtype, device=META, hooks=hooks)
    try:
        return [_tensor_bytes(p) for p in table.architecture.build(shape).state_dict().values()]
    except (ConfigError, NotImplementedError, RuntimeError):
        return [n * dtype.itemsize for n in (d_sae * d_in, d_sae * d_out, d_in, d_out)]


def _buffer(experiment: Experiment, sizes: RunSizes) -> tuple[int, int]:
    """Return the fills and bytes of the mixing buffer: two fills and a third being served.

    Mixing holds half a fill more: a sixth of that.
    """
    rows = fill_rows(experiment)
    tokens = experiment.training.steps * experiment.training.batch_size
    fills = max(1, math.ceil(tokens / rows + 0.5))  # half of the first fill waits for the second
    return fills, round(_row_bytes(experiment, sizes) * rows * (1.5 if tokens * 2 <= rows else 3))


def fill_rows(experiment: Experiment) -> int:
    """Return the rows of one fill of the mixing buffer."""
    table = experiment.dataset
    positions = len(range(table.context_size)[slice(*(table.positions or (None,)))])
    return max(1, experiment.buffer.tokens // table.context_size) * positions


def _row_bytes(experiment: Experiment, sizes: RunSizes) -> int:
    target = sizes.d_out if experiment.language_model.targets else 0
    return FLOAT * (sizes.d_in + target) + 16  # 16: the token's id and position


def _step(sizes: RunSizes) -> int:
    """Count a sparse step: copies of rows, chunks of pre-activations, entries of the codes."""
    rows = sizes.rows * (sizes.d_in + sizes.d_out) * 4 * FLOAT
    row = sizes.d_sae * FLOAT
    chunks = 4 * min(WIDE_CHUNK_BYTES, row * min(chunk_rows(row), sizes.rows))
    return rows + chunks + sizes.rows * sizes.entries * ENTRY_BYTES


def _evaluator(experiment: Experiment, sizes: RunSizes) -> MemoryItem:
    """Count the evaluator that needs the most memory, as its config states it."""
    extra = [_extra(choice.config, sizes) for choice in experiment.evaluator]
    if not experiment.evaluation.tokens or not any(extra):
        return MemoryItem(0)
    heaviest = extra.index(max(extra))
    batch = getattr(experiment.evaluator[heaviest].config, "batch_size", None)
    knob = None if batch is None else MemoryKnob(f"evaluator[{heaviest}].batch_size", batch)
    return MemoryItem(extra[heaviest], knob)


def _optimizer_share(experiment: Experiment) -> float:
    """Measure bytes of optimizer state per byte of weights, in one step on a small matrix."""
    probe = torch.nn.Parameter(torch.zeros(64, 64))
    probe.grad = torch.zeros_like(probe)
    optimizer = experiment.training.optimizer.build([probe], 1e-3)
    optimizer.step()
    return _tensor_bytes(optimizer.state_dict()) / _tensor_bytes(probe)


def _tensor_bytes(value: Any) -> int:
    """Sum the bytes of all tensors in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(_tensor_bytes(item) for item in value.values())
    return sum(_tensor_bytes(item) for item in value) if isinstance(value, list | tuple) else 0


def _model_bytes(backend: ModelBackend) -> int:
    model = getattr(backend, "model", None)
    return _tensor_bytes(model.state_dict()) if isinstance(model, torch.nn.Module) else 0


def _extra(config: Any, sizes: RunSizes) -> int:
    return int(config.extra_memory(sizes)) if hasattr(config, "extra_memory") else 0


def combine(plans: Sequence[Plan], first: Experiment, size: int) -> Plan:
    """Plan runs that are trained side by side, one step at a time.

    Args:
        plans: the plan of each run; only one at a time takes a step, is evaluated or is saved.
        first: one of the experiments; all have the same buffer and dataset.
        size: size of a token's activations at all hooks together.
    """
    memory: dict[str, MemoryItem] = {}
    for name in dict.fromkeys(name for plan in plans for name in plan.memory):
        items = [plan.memory[name] for plan in plans if name in plan.memory]
        count = sum if name in PER_RUN else max
        memory[name] = MemoryItem(count(item.bytes for item in items))
    # Two fills, the one being served, and the next one, which some reader may have reached.
    memory["window"] = MemoryItem(4 * fill_rows(first) * (FLOAT * size + 16))
    return attrs.evolve(
        plans[0],
        tokens=max(plan.tokens for plan in plans),
        fills=max(plan.fills for plan in plans),
        memory=memory,
        moments={moment: _largest(plans, moment) for moment in plans[0].moments},
    )


def _largest(plans: Sequence[Plan], moment: str) -> Mapping[str, MemoryItem]:
    candidates = [plan.moments[moment] for plan in plans]
    return max(candidates, key=lambda items: sum(item.bytes for item in items.values()))
