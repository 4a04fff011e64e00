"""What an SAE is evaluated on: settings laid over its own, then model and held-out text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.backend import ModelBackend
from saecore.components import Choice
from saecore.config.experiment import DatasetTable, EvaluationTable, ModelTable
from saecore.config.explain import config_error, to_tables
from saecore.config.layers import Layers, add_setting, add_value, merge
from saecore.config.sources import available
from saecore.config.structure import Problems, structure, structure_choice
from saecore.errors import ConfigError, DataError, nearest
from saecore.evaluation import Origin
from saecore.feed import hook_metadata
from saecore.language_model.given import backend_of
from saecore.language_model.recorded import model_table
from saecore.plugins import Host
from saecore.reading import pick_device, read_tokens
from saecore.sae import SAE
from saecore.sae_config import DTYPES, Metadata
from saecore.subject import Subject, text_table

TABLES = ("model", "dataset", "evaluation")


@attrs.frozen
class Chosen:
    """What an evaluation is to use: the tables of an experiment that matter to it."""

    model: ModelTable | None = None
    """The language model and the hook."""
    dataset: DatasetTable | None = None
    """The text."""
    evaluation: EvaluationTable = attrs.field(factory=EvaluationTable)
    """How much of it."""


def choose(
    subject: Subject,
    model: Any,
    dataset: str | Tensor | None,
    settings: Sequence[str] | Mapping[str, Any],
    host: Host,
) -> Layers:
    """The tables of a subject with what was asked for laid over them.

    Raises:
        ConfigError: a setting is malformed.
    """
    layers = Layers(subject.name)
    merge(layers, {**subject.tables, **subject.evaluators}, subject.name)
    if isinstance(model, str):
        old = layers.tables.get("model", {})
        where = {one.name for one in attrs.fields(ModelTable)} - {"plugin"}
        kept = {key: value for key, value in old.items() if key in where}
        table = model_table(model, subject.sae.cfg.metadata, host)
        layers.tables["model"] = {}
        merge(layers, {"model": {**table, **kept}}, "--model")
    if isinstance(dataset, str):
        old = layers.tables.get("dataset", {})
        where = {one.name for one in attrs.fields(DatasetTable)} - {"plugin"}
        kept = {key: value for key, value in old.items() if key in where}
        layers.tables["dataset"] = {}
        merge(layers, {"dataset": {**text_table(dataset, host), **kept}}, "--dataset")
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            add_value(layers, key, value)
    else:
        for setting in settings:
            add_setting(layers, setting)
    return layers


def evaluator(layers: Layers, name: str, host: Host) -> Choice:
    """An evaluator with its settings.

    Raises:
        ConfigError: they are wrong.
        PluginError: there is no such evaluator.
    """
    host.component("evaluator", name)
    table = {**layers.tables.get(name, {}), "type": name}
    try:
        return structure_choice("evaluator", table, host)
    except Problems as error:
        listed = [(f"{name}.{key}" if key else name, why) for key, why in error.items]
        raise config_error(layers, listed) from None


def check_keys(layers: Layers, names: Sequence[str]) -> None:
    """Refuse settings of nothing.

    Raises:
        ConfigError: a setting is of no table and of no evaluator that is run.
    """
    known = [*TABLES, *names]
    problems = [
        f"{key}: expected a key of {', '.join(TABLES)}, or of an evaluator that is run "
        f"({', '.join(names)}){nearest(key, known)}"
        for key in layers.tables
        if key not in known and any(one.split(".")[0] == key and origin == "--set"
                                    for one, origin in layers.origins.items())
    ]  # fmt: skip
    if problems:
        raise ConfigError(layers.source, problems)


def structured(layers: Layers, host: Host, given: Mapping[str, Any]) -> Chosen:
    """The tables, checked; what Python code has given itself is left out.

    Raises:
        ConfigError: a key is wrong, or model or text are not known.
    """
    tables = {key: layers.tables[key] for key in TABLES if key in layers.tables}
    problems = []
    if given.get("dataset") is not None:
        tables.pop("dataset", None)
    elif "type" not in tables.get("dataset", {}):
        problems.append("dataset: the SAE does not say on what text it was trained; give --dataset")
    if _own_activations(tables.get("dataset", {}), host):
        tables.pop("model", None)  # none is read
    elif given.get("model") is not None:
        hooks = tables.get("model", {})
        tables["model"] = {**hooks, "type": hooks.get("type", "tiny_lm")}
    elif "model" in tables and "type" not in tables["model"]:
        problems.append("model: the SAE does not say what model it reads; give --model")
    if problems:
        raise ConfigError(layers.source, problems)
    evaluation = tables.get("evaluation", {})
    tables["evaluation"] = {k: v for k, v in evaluation.items() if k == "tokens" and v}
    try:
        chosen: Chosen = structure(tables, Chosen, host)
    except Problems as error:
        raise config_error(layers, error.items) from None
    return chosen


def _own_activations(table: Mapping[str, Any], host: Host) -> bool:
    """Whether a dataset gives activations that are of no model."""
    name = table.get("type")
    if name not in host.names("dataset"):
        return False
    gives = host.component("dataset", name).gives
    return "activations" in gives and "recorded" not in gives


@attrs.frozen(eq=False)
class HeldOut:
    """What evaluators are given."""

    origin: Origin | None = None
    """The model, or the held-out stream of a dataset."""
    tokens: Tensor | int = 0
    """Held-out contexts `[n, T]`, or a number of rows of the stream."""
    gives: frozenset[str] = frozenset({"weights"})
    """What evaluators can have."""
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    """Where the SAE is to read, where a setting has changed that."""
    record: Mapping[str, Any] = attrs.field(factory=dict)
    """What was read."""
    device: torch.device | None = None
    """Where the model is."""

    def placed(self, sae: SAE) -> SAE:
        """The SAE with the metadata that say where it is read, on the model's device."""
        if not self.metadata:
            return sae
        sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({**sae.cfg.metadata, **self.metadata}))
        return sae


def open_held_out(
    sae: SAE,
    chosen: Chosen,
    source: str,
    host: Host,
    model: Any = None,
    tokens: Tensor | None = None,
) -> HeldOut:
    """Load the model and read held-out text, or open the held-out side of a dataset.

    Args:
        sae: the SAE that is to be evaluated.
        chosen: the tables.
        source: what errors name.
        host: the plugins.
        model: a model that is loaded already.
        tokens: contexts `[n, T]`, in place of text.

    Raises:
        SaecoreError: they cannot be had, or do not fit the SAE.
    """
    gives, wanted = available(chosen), chosen.evaluation.tokens
    dataset = chosen.dataset
    if dataset is not None and "activations" in dataset.plugin.component.gives:
        made = dataset.plugin.build(dataset.seed)
        if "recorded" not in gives:
            held = made.held_out()
            return HeldOut(held, wanted, gives, record={"corpus": made.fingerprint})
        if chosen.model is None:
            name = made.only_hook(dataset.plugin.config.hook)
            held = made.stream([name], device=sae.W_dec.device).held_out()
            record = {"corpus": held.fingerprint}
            return HeldOut(held, min(wanted, held.rows()), gives, record=record)
        backend = _backend(chosen.model, model, source, host)
        made.check_model(backend)
        return _with_model(sae, chosen, source, backend, made.contexts)
    if chosen.model is None:
        raise ConfigError(source, ["model: the SAE does not say what it reads; give --model and "
                                   "--set model.hook=NAME"])  # fmt: skip
    backend = _backend(chosen.model, model, source, host)
    if tokens is not None:
        return _with_model(sae, chosen, source, backend, tokens.long())
    assert dataset is not None
    if backend.max_context is not None and dataset.context_size > backend.max_context:
        raise ConfigError(
            source,
            [f"dataset.context_size: {backend.name} takes at most {backend.max_context} tokens, "
             f"got {dataset.context_size}"],
        )  # fmt: skip
    rows = read_tokens(dataset, backend, source, wanted)
    count = max(1, wanted // dataset.context_size)
    held_rows = torch.from_numpy(rows.held_out[:count].astype("int64"))
    return _with_model(sae, chosen, source, backend, held_rows, {"corpus": rows.corpus})


def _backend(table: ModelTable, model: Any, source: str, host: Host) -> ModelBackend:
    if model is not None:
        return backend_of(model, host)
    backend: ModelBackend = table.plugin.build(
        pick_device(table.device, source), DTYPES[table.dtype]
    )
    return backend


def _with_model(
    sae: SAE,
    chosen: Chosen,
    source: str,
    backend: ModelBackend,
    tokens: Tensor,
    record: Mapping[str, Any] = {},
) -> HeldOut:
    model = chosen.model
    assert model is not None
    if not len(tokens):
        raise DataError("dataset: no context of held-out text to evaluate on")
    for size, hooks in ((sae.cfg.d_in, model.read_hooks), (sae.cfg.d_out, model.targets)):
        found = sum(_size(backend, hook, model.head) for hook in hooks)
        if hooks and found != size:
            raise ConfigError(
                source,
                [f"model.hook: {', '.join(hooks)} of {backend.name} has size {found}, the SAE "
                 f"takes {size}; give the model and hook it was trained on"],
            )  # fmt: skip
    metadata = hook_metadata(model)
    if chosen.dataset is not None:
        table = chosen.dataset
        if table.positions:
            metadata["seqpos_slice"] = list(table.positions)
        metadata["exclude_special_tokens"] = to_tables(table)["exclude_special_tokens"]
    about = {
        "model": dict(backend.identity),
        "contexts": len(tokens),
        "context_size": tokens.shape[1],
        **record,
    }
    gives = frozenset({"model", "activations", "weights"})
    return HeldOut(backend, tokens, gives, metadata, about, pick_device(model.device, source))


def _size(backend: ModelBackend, hook: str, head: int | None) -> int:
    sizes = backend.d(hook)
    return int(torch.tensor(sizes).prod()) if head is None else sizes[-1]
