"""Where a run's activations come from: a language model over text, or a dataset that gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.backend import ModelBackend
from saecore.cache.reading import ActivationCache
from saecore.config.experiment import Experiment, ModelTable
from saecore.config.explain import to_tables
from saecore.data.shared import Reader
from saecore.data.source import ActivationSource, OwnActivations
from saecore.data.tokens import TokenRows
from saecore.errors import ConfigError
from saecore.evaluation import Origin
from saecore.plan import make_plan, refuse_if_too_big
from saecore.reading import make_window, pick_device, read_tokens, sizes
from saecore.sae_config import DTYPES


@attrs.frozen(eq=False)
class Feed:
    """What a run trains on and is evaluated on."""

    source: ActivationSource
    """The stream to train on."""
    d_in: int
    """Size of the activations that are read."""
    d_out: int
    """Size of the activations that are reconstructed."""
    device: torch.device
    """Where the SAE is trained."""
    origin: Origin
    """What evaluators read: the language model, or the dataset's held-out stream."""
    held_out: Tensor | int
    """Held-out contexts `[n, T]`, or a number of rows of the held-out stream."""
    record: Mapping[str, Any]
    """What experiment.json says of model and data."""
    metadata: Mapping[str, Any]
    """What the saved SAE's metadata says of them, under SAELens' names."""
    backend: ModelBackend | None = None
    """The language model, if there is one."""
    reshape: str = "none"
    """`reshape_activations` of the saved SAE."""
    stream: Reader | None = None
    """The source, where other runs read the same stream."""


def make_feed(experiment: Experiment, source: str) -> Feed:
    """Build the model and read the text, or build the dataset of activations.

    Raises:
        SaecoreError: they are missing, or the experiment does not fit them.
    """
    if "recorded" in experiment.dataset.plugin.component.gives:
        return _from_cache(experiment, source)
    if experiment.model is None:
        return _from_dataset(experiment, source)
    return _from_model(experiment, source)


def _from_dataset(experiment: Experiment, source: str) -> Feed:
    table = experiment.dataset
    try:
        stream: OwnActivations = table.plugin.build(table.seed)
    except ConfigError as error:
        raise ConfigError(source, error.problems) from None
    return Feed(
        source=stream,
        d_in=stream.d_in,
        d_out=stream.d_out,
        device=stream.device,
        origin=stream.held_out(),
        held_out=experiment.evaluation.tokens,
        record={"model": None, "dataset": None, "corpus": stream.fingerprint, "tokens_key": None},
        metadata={
            "dataset_path": table.plugin.name,
            **stream.metadata,
            "corpus": stream.fingerprint,
        },
    )


def _from_cache(experiment: Experiment, source: str) -> Feed:
    """A cache; with [model] its evaluators run the model that made it."""
    table, model = experiment.dataset, experiment.model
    try:
        cache: ActivationCache = table.plugin.build(table.seed)
    except ConfigError as error:
        raise ConfigError(source, error.problems) from None
    manifest, backend = cache.manifest, None
    if model is None:
        name = cache.only_hook(table.plugin.config.hook)
        stream = cache.stream([name], device=pick_device("auto", source))
        where: dict[str, Any] = {"hook_name": name, "hook_head_index": None}
    else:
        device = pick_device(model.device, source)
        loaded: ModelBackend = model.plugin.build(device, DTYPES[model.dtype])
        cache.check_model(loaded)
        sizes(experiment, loaded, source)
        stream = cache.stream(model.read_hooks, model.targets, model.head, device)
        where, backend = hook_metadata(model), loaded
    stored = {} if manifest.dtype == "float32" else {"activations_stored_as": manifest.dtype}
    heads = len(manifest.hooks[stream.hooks[0]]) > 1 and stream.head is None
    tokens = experiment.evaluation.tokens
    held_out = stream.held_out()
    return Feed(
        source=stream,
        d_in=stream.d_in,
        d_out=stream.d_out,
        device=stream.device,
        origin=held_out if backend is None else backend,
        held_out=min(tokens, held_out.rows()) if backend is None else cache.contexts,
        record={
            "model": dict(manifest.model),
            "dataset": dict(manifest.dataset),
            "corpus": stream.fingerprint,
            "tokens_key": manifest.stream["tokens_key"],
        },
        metadata={**manifest.metadata, **where, **stored},
        backend=backend,
        reshape="hook_z" if heads else "none",
    )


def _from_model(experiment: Experiment, source: str) -> Feed:
    backend, device = load_model(experiment, source)
    d_in, d_out = sizes(experiment, backend, source)
    refuse_if_too_big(make_plan(experiment, backend, d_in, d_out, device))
    rows = read_tokens(experiment.dataset, backend, source, evaluated(experiment))
    window = make_window(experiment, backend, rows)
    return model_feed(experiment, backend, device, rows, window, (d_in, d_out))


def load_model(experiment: Experiment, source: str) -> tuple[ModelBackend, torch.device]:
    """The language model, and where it is.

    Raises:
        SaecoreError: it cannot be loaded, or this machine has no such device.
    """
    model = experiment.language_model
    device = pick_device(model.device, source)
    backend: ModelBackend = model.plugin.build(device, DTYPES[model.dtype])
    return backend, device


def evaluated(experiment: Experiment) -> int:
    """Held-out tokens that the evaluators need."""
    return experiment.evaluation.tokens if experiment.evaluator else 0


def model_feed(
    experiment: Experiment,
    backend: ModelBackend,
    device: torch.device,
    rows: TokenRows,
    window: ActivationSource,
    size: tuple[int, int],
) -> Feed:
    """The feed of a stream over a model.

    Args:
        experiment: what to do.
        backend: the model.
        device: where it is.
        rows: tokens to train on, and those held out.
        window: the stream to train on.
        size: d_in and d_out.
    """
    model, (d_in, d_out) = experiment.language_model, size
    contexts = max(1, experiment.evaluation.tokens // experiment.dataset.context_size)
    heads = len(backend.d(model.read_hooks[0])) > 1 and model.head is None
    return Feed(
        source=window,
        d_in=d_in,
        d_out=d_out,
        device=device,
        origin=backend,
        held_out=torch.from_numpy(rows.held_out[:contexts].astype("int64")),
        record={
            "model": dict(backend.identity),
            "dataset": rows.identity,
            "corpus": rows.corpus,
            "tokens_key": rows.key,
        },
        metadata={**text_metadata(experiment, backend, rows), **hook_metadata(model)},
        backend=backend,
        reshape="hook_z" if heads else "none",
        stream=window if isinstance(window, Reader) else None,
    )


def hook_metadata(model: ModelTable) -> dict[str, Any]:
    """What the metadata of an SAE say of where it reads, under SAELens' names."""
    return {
        "hook_name": model.read_hooks[0],
        "hook_head_index": model.head,
        **({"hook_names": list(model.hooks)} if model.hooks else {}),
        **({"hook_name_out": model.target_hook} if model.target_hook else {}),
        **({"hook_names_out": list(model.target_hooks)} if model.target_hooks else {}),
    }


def text_metadata(experiment: Experiment, backend: ModelBackend, rows: TokenRows) -> dict[str, Any]:
    """What they say of model and text."""
    data = experiment.dataset
    return {
        "dataset_path": rows.identity.get("name", data.plugin.name),
        "model_name": backend.name,
        "model_class_name": type(getattr(backend, "model", backend)).__name__,
        "context_size": data.context_size,
        "seqpos_slice": list(data.positions) if data.positions else [None],
        "prepend_bos": data.prepend_bos,
        "exclude_special_tokens": to_tables(data)["exclude_special_tokens"],
        "sequence_separator_token": data.separator,
        "disable_concat_sequences": not data.concat,
        "activation_convention": backend.convention,
        "corpus": rows.corpus,
    }
