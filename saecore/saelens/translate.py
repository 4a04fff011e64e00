"""Translate flat parameters into an experiment file, and its errors back into parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from saecore.config.experiment import Experiment, SAETable
from saecore.config.from_metadata import dataset_table, hub_name
from saecore.config.load import structure_experiment
from saecore.core.architecture_config import RescaledConfig
from saecore.core.model import layer_of
from saecore.errors import ConfigError
from saecore.plugins.component import Component
from saecore.plugins.host import current_host
from saecore.saelens.parameters import Parameters

LABEL = "LanguageModelSAERunnerConfig"
"""Label of errors."""

KEYS = {
    "model": "model_name",
    "model.type": "model_name",
    "model.name": "model_name",
    "model.hook": "hook_name",
    "model.device": "device",
    "dataset": "dataset_path",
    "dataset.type": "dataset_path",
    "dataset.name": "dataset_path",
    "dataset.streaming": "streaming",
    "dataset.context_size": "context_size",
    "buffer.tokens": "n_batches_in_buffer",
    "buffer.model_batch_size": "store_batch_size_prompts",
    "sae.architecture": "architecture",
    "sae.d_in": "d_in",
    "sae.d_sae": "d_sae",
    "sae.expansion_factor": "expansion_factor",
    "sae.activation": "activation_fn",
    "sae.activation.type": "activation_fn",
    "sae.l1_coefficient": "l1_coefficient",
    "sae.l0_coefficient": "l1_coefficient",
    "sae.l1_schedule.warm_up_steps": "l1_warm_up_steps",
    "sae.l0_schedule.warm_up_steps": "l1_warm_up_steps",
    "sae.lp_norm": "lp_norm",
    "sae.dead_latents.type": "use_ghost_grads",
    "sae.dead_latents.after_steps": "dead_feature_window",
    "sae.normalizer.type": "normalize_activations",
    "sae.dtype": "dtype",
    "training.tokens": "training_tokens",
    "training.batch_size": "train_batch_size_tokens",
    "training.lr": "lr",
    "training.lr_schedule.type": "lr_scheduler_name",
    "training.lr_schedule.warm_up_steps": "lr_warm_up_steps",
    "training.lr_schedule.decay_steps": "lr_decay_steps",
    "training.log_every_steps": "wandb_log_frequency",
    "training.feature_sampling_window": "feature_sampling_window",
    "training.checkpoint.count": "n_checkpoints",
    "logger[0].type": "log_to_wandb",
    "logger[0].project": "wandb_project",
    "output": "checkpoint_path",
}
"""Keys of an experiment file, and the parameters that set them."""


def experiment_of(parameters: Parameters) -> Experiment:
    """The experiment that the parameters describe.

    Raises:
        ConfigError: lists every problem, under the names of the parameters.
    """
    problems = list(contradictions(parameters))
    try:
        experiment = structure_experiment(tables_of(parameters), LABEL)
    except ConfigError as error:
        problems += renamed(error.problems)
    if problems:
        raise ConfigError(problems, label=LABEL)
    return experiment


def renamed(problems: Iterable[str]) -> list[str]:
    """Replace the TOML keys in problems by the names of parameters."""
    return [parameter_of(key) + rest for key, rest in map(split, problems)]


def split(problem: str) -> tuple[str, str]:
    """Split a problem into its key and the rest, which starts with the colon."""
    key, colon, rest = problem.partition(":")
    return key, colon + rest


def parameter_of(key: str) -> str:
    """The parameter that sets a key; other keys of [sae] belong to activation_fn_kwargs."""
    if key in KEYS:
        return KEYS[key]
    if key.startswith("sae."):
        return f"activation_fn_kwargs.{key.removeprefix('sae.').removeprefix('activation.')}"
    return key


def tables_of(p: Parameters) -> dict[str, Any]:
    """The tables of the equivalent experiment file."""
    model = {"type": "huggingface", "name": hub_name(p.model_name)}
    if p.model_name == "tiny_lm":
        model = {"type": "tiny_lm"}
    fill = p.n_batches_in_buffer // 2 * p.store_batch_size_prompts * p.context_size
    training: dict[str, Any] = {
        "tokens": p.training_tokens,
        "batch_size": p.train_batch_size_tokens,
        "lr": p.lr,
        "lr_schedule": {
            "type": p.lr_scheduler_name,
            "warm_up_steps": p.lr_warm_up_steps,
            "decay_steps": p.lr_decay_steps,
        },
        "log_every_steps": p.wandb_log_frequency,
        "feature_sampling_window": p.feature_sampling_window,
    }
    if p.n_checkpoints:
        keep = max(2, p.n_checkpoints)
        training["checkpoint"] = {"every_minutes": 0, "count": p.n_checkpoints, "keep": keep}
    tables: dict[str, Any] = {
        "output": p.checkpoint_path,
        "model": {**model, "hook": p.hook_name, "device": p.device},
        "dataset": {
            **dataset_table(p.dataset_path, p.streaming),
            "context_size": p.context_size,
        },
        "buffer": {"tokens": fill, "model_batch_size": p.store_batch_size_prompts},
        "sae": _sae(p),
        "training": training,
    }
    if p.log_to_wandb:
        project = {} if p.wandb_project is None else {"project": p.wandb_project}
        tables["logger"] = [{"type": "wandb", **project}]
    return tables


def architecture_of(p: Parameters) -> str:
    """The architecture; activation_fn may name it, as in SAELens 3."""
    named = p.activation_fn is not None and p.activation_fn in current_host().names("architecture")
    return str(p.activation_fn) if named and p.architecture == "standard" else p.architecture


def contradictions(p: Parameters) -> Iterator[str]:
    """Parameters that contradict each other, or that have no effect with the architecture."""
    layer = layer_of(p.hook_name)
    if None not in (p.hook_layer, layer) and p.hook_layer != layer:
        yield f"hook_layer: hook_name {p.hook_name} is in layer {layer}, got {p.hook_layer}"
    name = architecture_of(p)
    component = _architecture(p)
    if component is None:
        return
    fields = attrs.fields_dict(component.config)
    function = p.activation_fn
    if "activation" not in fields and function not in (None, name):
        relu = function == "relu" and not issubclass(component.config, RescaledConfig)
        if not relu:  # SAELens' default; gated and jumprelu apply it internally
            yield f'activation_fn: architecture {name} fixes it, got "{function}"; remove it'
    if _penalty(component) is None:
        for key in ("l1_coefficient", "l1_warm_up_steps"):
            if getattr(p, key):
                yield f"{key}: architecture {name} has no sparsity penalty; remove it"
    if "lp_norm" not in fields and p.lp_norm != 1:
        yield f"lp_norm: architecture {name} has no Lp penalty; remove it"
    if "activation" not in fields:
        for key in p.activation_fn_kwargs:
            if f"sae.{key}" in KEYS or key in attrs.fields_dict(SAETable):
                yield f"activation_fn_kwargs.{key}: no setting of an activation; remove it"


def _architecture(p: Parameters) -> Component | None:
    name = architecture_of(p)
    return (
        current_host().component("architecture", name)
        if name in current_host().names("architecture")
        else None
    )


def _penalty(component: Component) -> str | None:
    """Prefix of the keys of the sparsity penalty: "l1", "l0", or None without a penalty."""
    fields = attrs.fields_dict(component.config)
    return next((norm for norm in ("l1", "l0") if f"{norm}_coefficient" in fields), None)


def _sae(p: Parameters) -> dict[str, Any]:
    name, component = architecture_of(p), _architecture(p)
    sizes: dict[str, Any] = {"d_in": p.d_in, "d_sae": p.d_sae}
    unset = p.d_sae is None and p.expansion_factor is None
    sizes["expansion_factor"] = 4 if unset else p.expansion_factor
    table: dict[str, Any] = {
        "architecture": name,
        **{key: size for key, size in sizes.items() if size is not None},
        "normalizer": {"type": p.normalize_activations},
        "dead_latents": {
            "type": "ghost_grads" if p.use_ghost_grads else "none",
            "after_steps": p.dead_feature_window,
        },
        "dtype": p.dtype,
    }
    if component is None:
        return table  # validation reports the unknown architecture
    if issubclass(component.config, RescaledConfig) and not p.use_ghost_grads:
        table["dead_latents"]["type"] = "auxk"  # SAELens always uses the auxiliary loss here
    fields = attrs.fields_dict(component.config)
    penalty = _penalty(component)
    if penalty is not None:
        weight = 1e-3 if p.l1_coefficient is None else p.l1_coefficient
        table[f"{penalty}_coefficient"] = weight
        if p.l1_warm_up_steps:
            warm_up = {"type": "constant", "warm_up_steps": p.l1_warm_up_steps}
            table[f"{penalty}_schedule"] = warm_up
    if "lp_norm" in fields:
        table["lp_norm"] = p.lp_norm
    if "activation" in fields:
        table["activation"] = {**p.activation_fn_kwargs, "type": p.activation_fn or "relu"}
        return table
    return {**p.activation_fn_kwargs, **table}
