"""Model and text of a saved SAE, from its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from saecore.backend import ModelBackend
from saecore.components import Choice
from saecore.config.experiment import DatasetTable
from saecore.config.structure import Problems, structure, structure_choice
from saecore.errors import ConfigError, ModelError
from saecore.language_model.names import hub_name
from saecore.language_model.translate import dataset_table
from saecore.plugins import Host, current_host
from saecore.sae import SAE

PROCESSING = ("center_writing_weights", "fold_ln", "fold_value_biases")
"""Arguments of TransformerLens that change activations."""


def model_of(sae: SAE, name: str | None = None) -> Choice:
    """The model component that gives the activations that an SAE reads.

    Where weights were folded or centred, TransformerLens does that again.

    Args:
        sae: the SAE; its metadata say which model, and in which convention.
        name: another name of the model, or a directory.

    Raises:
        ConfigError: the metadata name no model.
    """
    metadata = sae.cfg.metadata
    name = name or metadata.get("model_name")
    if not name:
        raise ConfigError("model", ["its name is not in the SAE's metadata; give it (--model)"])
    host = current_host()
    return structure_choice("model", model_table(str(name), metadata, host), host)


def model_table(name: str, meta: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """A model by name or path: one of saecore's that needs no settings, else Hugging Face's."""
    if name in host.names("model"):
        component = host.component("model", name)
        if all(one.default is not attrs.NOTHING for one in attrs.fields(component.config)):
            return {"type": name}
    if _processed(meta):
        return {"type": "transformer_lens", "name": name, "processed": True}
    return {"type": "huggingface", "name": hub_name(name)}


def _processed(metadata: Mapping[str, Any]) -> bool:
    given = metadata.get("model_from_pretrained_kwargs") or {}
    changed = any(given.get(key) for key in PROCESSING)
    return bool(metadata.get("activation_convention", changed and "processed") == "processed")


def text_of(sae: SAE, path: str | None, source: str) -> DatasetTable:
    """The text that an SAE was trained on, and how it became contexts.

    Args:
        sae: the SAE.
        path: name or path of another text; default: that of the metadata.
        source: where the settings come from, for messages.

    Raises:
        ConfigError: the metadata name no text, or hold what no text can have.
    """
    host, metadata = current_host(), sae.cfg.metadata
    path = path or metadata.get("dataset_path")
    if not path:
        raise ConfigError(source, ["dataset: its name is not in the SAE's metadata; give it"])
    tables = {**dataset_table(str(path), True, host), **contexts_of(metadata)}
    try:
        table: DatasetTable = structure(tables, DatasetTable, host)
    except Problems as error:
        raise ConfigError(source, [f"dataset.{key}: {one}" for key, one in error.items]) from None
    return table


def contexts_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """How the SAE's text became contexts, as keys of [dataset]; what is not said is left out."""
    positions = metadata.get("seqpos_slice")
    separator = metadata.get("sequence_separator_token", "bos")
    keys = {
        "context_size": metadata.get("context_size"),
        "prepend_bos": metadata.get("prepend_bos"),
        "separator": "none" if separator is None else separator,
        "concat": not metadata.get("disable_concat_sequences", False),
        "exclude_special_tokens": metadata.get("exclude_special_tokens"),
        "positions": positions if positions and len(positions) == 2 else None,
    }
    return {key: value for key, value in keys.items() if value is not None}


def check_model(backend: ModelBackend, sae: SAE, table: DatasetTable, source: str) -> None:
    """Refuse a model that is not the SAE's.

    Args:
        backend: the model.
        sae: the SAE; its metadata name a hook.
        table: the text.
        source: where the settings come from, for messages.

    Raises:
        ConfigError: its activations have another size, or its contexts are shorter.
        ModelError: it has no such hook.
    """
    metadata = sae.cfg.metadata
    hooks = tuple(metadata.get("hook_names") or [metadata["hook_name"]])
    head = metadata.get("hook_head_index")
    sizes = [backend.d(hook) for hook in hooks]
    if head is not None and any(len(one) < 2 or head >= one[0] for one in sizes):
        raise ModelError(f"{source}: {backend.name} has no head {head} at {hooks[0]}")
    d_in = sum(one[-1] if head is not None else int(np.prod(one)) for one in sizes)
    problems = []
    if d_in != sae.cfg.d_in:
        problems.append(
            f"sae: it reads activations of size {sae.cfg.d_in}, {', '.join(hooks)} of "
            f"{backend.name} has {d_in}"
        )
    if backend.max_context is not None and table.context_size > backend.max_context:
        problems.append(
            f"sae: it was trained on contexts of {table.context_size} tokens, {backend.name} takes "
            f"at most {backend.max_context}"
        )
    if problems:
        raise ConfigError(source, problems)
