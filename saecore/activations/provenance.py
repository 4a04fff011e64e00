"""Metadata of an SAE: the model, hooks and text it was trained on."""

from __future__ import annotations

from typing import Any

from saecore.activations.token_cache import TokenRows
from saecore.config.experiment import DatasetTable, Experiment, ModelTable
from saecore.config.messages import to_tables
from saecore.core.model import ModelBackend


def hook_metadata(model: ModelTable) -> dict[str, Any]:
    """Where the SAE reads and writes, under SAELens' names."""
    return {
        "hook_name": model.read_hooks[0],
        "hook_head_index": model.head,
        **({"hook_names": list(model.hooks)} if model.hooks else {}),
        **({"hook_name_out": model.target_hook} if model.target_hook else {}),
        **({"hook_names_out": list(model.target_hooks)} if model.target_hooks else {}),
    }


def text_settings(data: DatasetTable) -> dict[str, Any]:
    """How text is cut into contexts, under SAELens' names."""
    return {
        "context_size": data.context_size,
        "seqpos_slice": list(data.positions) if data.positions else [None],
        "prepend_bos": data.prepend_bos,
        "exclude_special_tokens": to_tables(data)["exclude_special_tokens"],
        "sequence_separator_token": data.separator,
        "disable_concat_sequences": not data.concat,
    }


def text_metadata(experiment: Experiment, backend: ModelBackend, rows: TokenRows) -> dict[str, Any]:
    """The model and the text, under SAELens' names."""
    data = experiment.dataset
    return {
        "dataset_path": rows.identity.get("name", data.loader.name),
        "model_name": backend.name,
        "model_class_name": type(getattr(backend, "model", backend)).__name__,
        **text_settings(data),
        "activation_convention": backend.convention,
        "corpus": rows.corpus,
    }
