"""Model and text of a saved SAE, from its metadata: as tables of an experiment, and structured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from saecore.config.experiment import DatasetTable
from saecore.core.sae import SAE
from saecore.errors import ConfigError
from saecore.plugins.component import Choice
from saecore.plugins.host import current_host
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure, structure_choice

Tables = dict[str, Any]
"""Tables of an experiment by name, or the keys of one."""

PROCESSING = ("center_writing_weights", "fold_ln", "fold_value_biases")
"""Arguments of TransformerLens' loader that change activations."""

DATASETS = (".arrow", ".parquet", ".json", ".jsonl", ".csv", ".gz", ".zst")
"""Suffixes of files that hold many documents each."""


def metadata_tables(metadata: Mapping[str, Any]) -> Tables:
    """[model] and [dataset] of an SAE, as far as its metadata describe them."""
    tables = {}
    hooks, name = hook_keys(metadata), metadata.get("model_name")
    if name:
        tables["model"] = {**model_table(str(name), metadata), **hooks}
    elif hooks:
        tables["model"] = hooks
    path = metadata.get("dataset_path")
    tables["dataset"] = {**(text_table(str(path)) if path else {}), **context_keys(metadata)}
    return tables


def model_of(sae: SAE, name: str | None = None) -> Choice:
    """The model component whose activations an SAE reads.

    Args:
        sae: the SAE; its metadata name the model and its processing.
        name: another name of the model, or a directory.

    Raises:
        ConfigError: the metadata name no model.
    """
    metadata = sae.cfg.metadata
    name = name or metadata.get("model_name")
    if not name:
        raise ConfigError(
            ["its name is not in the SAE's metadata; give it (--model)"], label="model"
        )
    return structure_choice("model", model_table(str(name), metadata))


def text_of(sae: SAE, path: str | None) -> DatasetTable:
    """The text that an SAE was trained on, and how it was cut into contexts.

    Args:
        sae: the SAE.
        path: name or path of another text, as `datasets.load_dataset` takes it; default: the
            text that the metadata name.

    Raises:
        ConfigError: the metadata name no text, or a value is invalid.
    """
    metadata = sae.cfg.metadata
    path = path or metadata.get("dataset_path")
    if not path:
        raise ConfigError(["dataset: its name is not in the SAE's metadata; give it (--dataset)"])
    keys = {**dataset_table(str(path), True), **context_keys(metadata)}
    try:
        table: DatasetTable = structure(keys, DatasetTable)
    except Problems as error:
        raise ConfigError([f"dataset.{key}: {problem}" for key, problem in error.items]) from None
    return table


def model_table(name: str, metadata: Mapping[str, Any]) -> Tables:
    """Component keys of [model] for a name or path.

    A model plugin of this name, if it has no required settings; else a Hugging Face model, loaded
    through TransformerLens if the SAE was trained on processed weights.
    """
    if name in current_host().names("model"):
        config = current_host().component("model", name).config
        if all(field.default is not attrs.NOTHING for field in attrs.fields(config)):
            return {"type": name}
    if _is_processed(metadata):
        return {"type": "transformer_lens", "name": hub_name(name), "processed": True}
    return {"type": "huggingface", "name": hub_name(name)}


def _is_processed(metadata: Mapping[str, Any]) -> bool:
    arguments = metadata.get("model_from_pretrained_kwargs") or {}
    changed = any(arguments.get(key) for key in PROCESSING)
    return bool(metadata.get("activation_convention", changed and "processed") == "processed")


def hook_keys(metadata: Mapping[str, Any]) -> Tables:
    """Keys of [model] that name the hooks and the attention head."""
    hooks, targets = metadata.get("hook_names"), metadata.get("hook_names_out")
    keys = {
        "hook": None if hooks else metadata.get("hook_name"),
        "target_hook": None if targets else metadata.get("hook_name_out"),
        "head": metadata.get("hook_head_index"),
        "hooks": hooks,
        "target_hooks": targets,
    }
    return {key: value for key, value in keys.items() if value is not None}


def context_keys(metadata: Mapping[str, Any]) -> Tables:
    """Keys of [dataset] that say how text is cut into contexts; unknown ones are left out."""
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


def text_table(path: str) -> Tables:
    """Component keys of [dataset] for a name or path given on a command line.

    A dataset plugin of this name, whatever settings it requires; for a local path the files in it:
    datasets as Hugging Face reads them, else plain text with one document per file; and for any
    other name a streamed dataset of the hub.
    """
    root = Path(path)
    if not root.exists():
        is_plugin = path in current_host().names("dataset")
        return {"type": path} if is_plugin else dataset_table(path, True)
    files = [root] if root.is_file() else [file for file in root.rglob("*") if file.is_file()]
    if any(file.suffix in DATASETS for file in files):
        return dataset_table(path, False)
    return {"type": "text_files", "paths": [path]}


def dataset_table(path: str, streaming: bool) -> Tables:
    """Component keys of [dataset] for a `dataset_path` as SAELens means it.

    A plugin that reads text and has no required settings, if it has this name; else whatever
    `datasets.load_dataset` finds there.
    """
    if path in current_host().names("dataset"):
        component = current_host().component("dataset", path)
        fields = attrs.fields(component.config)
        required = [field for field in fields if field.default is attrs.NOTHING]
        if not required and not component.provides:
            return {"type": path}
    return {"type": "huggingface", "name": path, "streaming": streaming}


_SHORT_NAMES = (
    (re.compile(r"gpt2-small"), "gpt2"),
    (re.compile(r"pythia-[\w.-]+"), r"EleutherAI/\g<0>"),
    (re.compile(r"gemma-[\w.-]+"), r"google/\g<0>"),
    (re.compile(r"qwen3-([\d.]+)b"), r"Qwen/Qwen3-\g<1>B"),
    (re.compile(r"mistral-7b"), "mistralai/Mistral-7B-v0.1"),
)
"""TransformerLens' short names of models, and their names on the hub."""


def hub_name(model_name: str) -> str:
    """The name of a model on the hub; directories and other names are returned unchanged."""
    if not Path(model_name).exists():
        for pattern, name in _SHORT_NAMES:
            matched = pattern.fullmatch(model_name)
            if matched:
                return matched.expand(name)
    return model_name
