"""Open the held-out data of an evaluation: load the model and read text, or open a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from saecore.activations.build import read_tokens
from saecore.activations.provenance import hook_metadata
from saecore.config.checks import available
from saecore.config.experiment import DatasetTable, ModelTable
from saecore.config.messages import to_tables
from saecore.core.model import ModelBackend, vector_size
from saecore.core.sae import SAE
from saecore.core.sae_config import DTYPES
from saecore.errors import ConfigError, DataError, ModelError
from saecore.evaluation.batches import HeldOut
from saecore.evaluation.settings import EvaluationSettings
from saecore.models.device import pick_device
from saecore.models.hook_site import HookSite
from saecore.models.wrap import backend_of


def open_held_out(
    sae: SAE,
    settings: EvaluationSettings,
    model: Any = None,
    tokens: Tensor | None = None,
) -> HeldOut:
    """Load the model and read held-out text, or open the held-out side of a dataset.

    Args:
        sae: the SAE to evaluate.
        settings: the tables.
        model: a loaded model, instead of the one that `settings` names.
        tokens: contexts `[n, T]`, instead of text.

    Raises:
        SaecoreError: the data cannot be read, or do not fit the SAE.
    """
    dataset = settings.dataset
    if dataset is not None and "activations" in dataset.loader.component.provides:
        return _from_dataset(sae, settings, dataset, model)
    if settings.model is None:
        raise ConfigError(
            ["model: the SAE does not say what it reads; give --model and --set model.hook=NAME"]
        )
    backend = _load(settings.model, model)
    _check_sizes(backend, settings.model, sae)
    if tokens is not None:
        return _with_model(backend, tokens.long())
    assert dataset is not None
    needed = settings.evaluation.tokens
    check_context_size(backend, dataset.context_size)
    rows = read_tokens(dataset, backend, needed)
    count = max(1, needed // dataset.context_size)
    contexts = torch.from_numpy(rows.held_out[:count].astype("int64"))
    return _with_model(backend, contexts, {"corpus": rows.corpus})


def _from_dataset(
    sae: SAE, settings: EvaluationSettings, table: DatasetTable, model: Any
) -> HeldOut:
    """The held-out side of a dataset of activations, or of a cache of a model's activations."""
    dataset, needed = table.loader.build(table.seed), settings.evaluation.tokens
    if "recorded" not in available(settings):
        record = {"corpus": dataset.fingerprint}
        return HeldOut(stream=dataset.held_out(), rows=needed, record=record)
    if settings.model is None:
        hook = dataset.only_hook(table.loader.config.hook)
        stream = dataset.stream(HookSite(hooks=(hook,)), sae.W_dec.device).held_out()
        record = {"corpus": stream.fingerprint}
        return HeldOut(stream=stream, rows=min(needed, stream.rows()), record=record)
    backend = _load(settings.model, model)
    dataset.check_model(backend)
    _check_sizes(backend, settings.model, sae)
    return _with_model(backend, dataset.contexts)


def _load(table: ModelTable, model: Any) -> ModelBackend:
    if model is not None:
        return backend_of(model)
    backend: ModelBackend = table.backend.build(pick_device(table.device), DTYPES[table.dtype])
    return backend


def _check_sizes(backend: ModelBackend, table: ModelTable, sae: SAE) -> None:
    check_size(backend, table.read_hooks, table.head, sae.cfg.d_in)
    if table.targets:
        has_heads = len(backend.d(table.targets[0])) > 1
        check_size(backend, table.targets, table.head if has_heads else None, sae.cfg.d_out)


def _with_model(backend: ModelBackend, contexts: Tensor, record: Mapping[str, Any] = {}) -> HeldOut:
    if not len(contexts):
        raise DataError("dataset: no context of held-out text to evaluate on")
    return HeldOut(
        model=backend,
        contexts=contexts,
        record={
            "model": dict(backend.identity),
            "contexts": len(contexts),
            "context_size": contexts.shape[1],
            **record,
        },
    )


def site_metadata(settings: EvaluationSettings) -> dict[str, Any]:
    """Metadata of an SAE that reads where the settings say; empty without a model."""
    if settings.model is None:
        return {}
    metadata = hook_metadata(settings.model)
    if settings.dataset is not None:
        if settings.dataset.positions:
            metadata["seqpos_slice"] = list(settings.dataset.positions)
        excluded = to_tables(settings.dataset)["exclude_special_tokens"]
        metadata["exclude_special_tokens"] = excluded
    return metadata


def check_model(backend: ModelBackend, sae: SAE, context_size: int) -> None:
    """Check that a model is one that the SAE can read.

    Args:
        backend: the model.
        sae: the SAE; its metadata name the hooks.
        context_size: tokens per context.

    Raises:
        ConfigError: the activations have another size, or the contexts are too long.
        ModelError: the model has no such hook.
    """
    metadata = sae.cfg.metadata
    hooks = tuple(metadata.get("hook_names") or [metadata["hook_name"]])
    check_size(backend, hooks, metadata.get("hook_head_index"), sae.cfg.d_in)
    check_context_size(backend, context_size)


def check_size(backend: ModelBackend, hooks: tuple[str, ...], head: int | None, size: int) -> None:
    """Check the size of a model's activations against the size that an SAE takes.

    Args:
        backend: the model.
        hooks: the hooks, whose sizes add up.
        head: attention head to take, if only one.
        size: the SAE's size.

    Raises:
        ConfigError: the sizes differ.
        ModelError: the model has no such hook, or the hook no such head.
    """
    shapes = [backend.d(hook) for hook in hooks]
    for hook, shape in zip(hooks, shapes, strict=True):
        if head is not None and (len(shape) < 2 or head >= shape[0]):
            raise ModelError(f"model.head: {backend.name} has no head {head} at {hook}")
    actual = sum(vector_size(shape, head) for shape in shapes)
    if actual != size:
        raise ConfigError(
            [
                f"model.hook: {', '.join(hooks)} of {backend.name} has size {actual}, the SAE "
                f"takes {size}; give the model and hook it was trained on"
            ]
        )


def check_context_size(backend: ModelBackend, context_size: int) -> None:
    """Check that the model takes contexts of this many tokens.

    Raises:
        ConfigError: they are too long.
    """
    if backend.max_context is not None and context_size > backend.max_context:
        raise ConfigError(
            [
                f"dataset.context_size: {backend.name} takes at most {backend.max_context} tokens, "
                f"got {context_size}"
            ]
        )
