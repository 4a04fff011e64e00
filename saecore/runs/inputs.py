"""The inputs of a run: activations of a language model on text, or of a dataset that has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch

from saecore.activations.build import build_store, hook_site, read_tokens, sizes
from saecore.activations.cache.reader import ActivationCache
from saecore.activations.provenance import hook_metadata, text_metadata
from saecore.activations.shared_store import StoreReader
from saecore.activations.token_cache import TokenRows
from saecore.config.experiment import Experiment
from saecore.core.activation_store import ActivationDataset, ActivationStore
from saecore.core.model import ModelBackend
from saecore.core.sae_config import DTYPES
from saecore.evaluation.batches import HeldOut
from saecore.models.device import pick_device
from saecore.models.hook_site import HookSite
from saecore.runs.planning.memory import make_plan
from saecore.runs.planning.plan import refuse_if_too_big


@attrs.frozen(eq=False, kw_only=True)
class RunInputs:
    """What a run trains on and is evaluated on."""

    store: ActivationStore
    """The activations to train on."""
    d_in: int
    """Size of the activations that the SAE reads."""
    d_out: int
    """Size of the activations that it reconstructs."""
    device: torch.device
    """Where the SAE is trained."""
    held_out: HeldOut
    """The data that the SAE is evaluated on."""
    record: Mapping[str, Any]
    """Entries of experiment.json about model and data."""
    metadata: Mapping[str, Any]
    """Entries of the saved SAE's metadata about model and data, under SAELens' names."""
    backend: ModelBackend | None = None
    """The language model, if the run has one."""
    reshape: str = "none"
    """`reshape_activations` of the saved SAE."""
    shared: StoreReader | None = None
    """`store`, if other runs read the same activations."""


def build_inputs(experiment: Experiment) -> RunInputs:
    """Load the model and read the text, or open the dataset of activations.

    Raises:
        SaecoreError: model or data are missing, or the experiment does not fit them.
    """
    if "recorded" in experiment.dataset.loader.component.provides:
        return _from_cache(experiment)
    if experiment.model is None:
        return _from_dataset(experiment)
    return _from_model(experiment)


def _from_dataset(experiment: Experiment) -> RunInputs:
    table = experiment.dataset
    stream: ActivationDataset = table.loader.build(table.seed)
    return RunInputs(
        store=stream,
        d_in=stream.d_in,
        d_out=stream.d_out,
        device=stream.device,
        held_out=HeldOut(stream=stream.held_out(), rows=experiment.evaluation.tokens),
        record={"model": None, "dataset": None, "corpus": stream.fingerprint, "tokens_key": None},
        metadata={
            "dataset_path": table.loader.name,
            **stream.metadata,
            "corpus": stream.fingerprint,
        },
    )


def _from_cache(experiment: Experiment) -> RunInputs:
    """Open an activation cache; with [model], evaluators run the model that it was made with."""
    table, model = experiment.dataset, experiment.model
    cache: ActivationCache = table.loader.build(table.seed)
    manifest, backend = cache.manifest, None
    if model is None:
        name = cache.only_hook(table.loader.config.hook)
        stream = cache.stream(HookSite(hooks=(name,)), pick_device("auto"))
        where: dict[str, Any] = {"hook_name": name, "hook_head_index": None}
    else:
        device = pick_device(model.device)
        loaded: ModelBackend = model.backend.build(device, DTYPES[model.dtype])
        cache.check_model(loaded)
        sizes(experiment, loaded)
        stream = cache.stream(hook_site(model, table, loaded), device)
        where, backend = hook_metadata(model), loaded
    stored = {} if manifest.dtype == "float32" else {"activations_stored_as": manifest.dtype}
    heads = len(manifest.hooks[stream.site.hooks[0]]) > 1 and stream.site.head is None
    tokens = experiment.evaluation.tokens
    if backend is None:
        rows = stream.held_out()
        held_out = HeldOut(stream=rows, rows=min(tokens, rows.rows()))
    else:
        held_out = HeldOut(model=backend, contexts=cache.contexts)
    return RunInputs(
        store=stream,
        d_in=stream.d_in,
        d_out=stream.d_out,
        device=stream.device,
        held_out=held_out,
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


def _from_model(experiment: Experiment) -> RunInputs:
    backend, device = load_model(experiment)
    d_in, d_out = sizes(experiment, backend)
    refuse_if_too_big(make_plan(experiment, backend, d_in, d_out, device))
    rows = read_tokens(experiment.dataset, backend, held_out_tokens(experiment))
    store = build_store(experiment, backend, rows)
    return inputs_from_model(experiment, backend, device, rows, store, (d_in, d_out))


def load_model(experiment: Experiment) -> tuple[ModelBackend, torch.device]:
    """Load the language model; returns it with its device.

    Raises:
        SaecoreError: it cannot be loaded, or this machine has no such device.
    """
    model = experiment.language_model
    device = pick_device(model.device)
    backend: ModelBackend = model.backend.build(device, DTYPES[model.dtype])
    return backend, device


def held_out_tokens(experiment: Experiment) -> int:
    """Return the number of held-out tokens that the evaluators need."""
    return experiment.evaluation.tokens if experiment.evaluator else 0


def inputs_from_model(
    experiment: Experiment,
    backend: ModelBackend,
    device: torch.device,
    rows: TokenRows,
    store: ActivationStore,
    size: tuple[int, int],
) -> RunInputs:
    """Assemble the inputs of a run on a model's activations.

    Args:
        experiment: the experiment.
        backend: the model.
        device: the model's device.
        rows: tokens to train on, and held-out tokens.
        store: the activations to train on.
        size: d_in and d_out.
    """
    model, (d_in, d_out) = experiment.language_model, size
    contexts = max(1, experiment.evaluation.tokens // experiment.dataset.context_size)
    heads = len(backend.d(model.read_hooks[0])) > 1 and model.head is None
    return RunInputs(
        store=store,
        d_in=d_in,
        d_out=d_out,
        device=device,
        held_out=HeldOut(
            model=backend, contexts=torch.from_numpy(rows.held_out[:contexts].astype("int64"))
        ),
        record={
            "model": dict(backend.identity),
            "dataset": rows.identity,
            "corpus": rows.corpus,
            "tokens_key": rows.key,
        },
        metadata={**text_metadata(experiment, backend, rows), **hook_metadata(model)},
        backend=backend,
        reshape="hook_z" if heads else "none",
        shared=store if isinstance(store, StoreReader) else None,
    )
