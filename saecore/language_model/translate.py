"""From the flat parameters to the tables of an experiment file, and errors back to parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from saecore.components import Component
from saecore.config.architecture import RescaledConfig
from saecore.config.experiment import Experiment, SAETable
from saecore.config.load import structure_experiment
from saecore.errors import ConfigError
from saecore.language_model.names import hub_name, layer_of
from saecore.language_model.parameters import Parameters
from saecore.plugins import Host, current_host

SOURCE = "LanguageModelSAERunnerConfig"
"""Where errors say that they come from."""

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
"""Keys of an experiment file and the parameters that set them."""


def experiment_of(parameters: Parameters, host: Host | None = None) -> Experiment:
    """The experiment that the parameters describe.

    Raises:
        ConfigError: with every problem found, under the parameters' names.
    """
    host = host or current_host()
    problems = list(contradictions(parameters, host))
    try:
        experiment = structure_experiment(tables_of(parameters, host), SOURCE, host)
    except ConfigError as error:
        problems += renamed(error.problems)
    if problems:
        raise ConfigError(SOURCE, problems)
    return experiment


def renamed(problems: Iterable[str]) -> list[str]:
    """Problems of an experiment file's keys, under the names of parameters."""
    return [parameter_of(key) + rest for key, rest in (split(one) for one in problems)]


def split(problem: str) -> tuple[str, str]:
    """A problem's key, and the rest from the colon on."""
    key, colon, rest = problem.partition(":")
    return key, colon + rest


def parameter_of(key: str) -> str:
    """The parameter behind a key; settings of the SAE that have none are the activation's."""
    if key in KEYS:
        return KEYS[key]
    if key.startswith("sae."):
        return f"activation_fn_kwargs.{key.removeprefix('sae.').removeprefix('activation.')}"
    return key


def tables_of(p: Parameters, host: Host) -> dict[str, Any]:
    """The tables of the experiment file that says the same."""
    own = p.model_name == "tiny_lm"
    model = {"type": "tiny_lm"} if own else {"type": "huggingface", "name": hub_name(p.model_name)}
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
            **dataset_table(p.dataset_path, p.streaming, host),
            "context_size": p.context_size,
        },
        "buffer": {"tokens": fill, "model_batch_size": p.store_batch_size_prompts},
        "sae": _sae(p, host),
        "training": training,
    }
    if p.log_to_wandb:
        project = {} if p.wandb_project is None else {"project": p.wandb_project}
        tables["logger"] = [{"type": "wandb", **project}]
    return tables


def dataset_table(path: str, streaming: bool, host: Host) -> dict[str, Any]:
    """A dataset by name or path: one of saecore's that needs no settings, else Hugging Face's."""
    if path in host.names("dataset"):
        component = host.component("dataset", path)
        required = [one for one in attrs.fields(component.config) if one.default is attrs.NOTHING]
        if not required and not component.gives:
            return {"type": path}
    return {"type": "huggingface", "name": path, "streaming": streaming}


def architecture_of(p: Parameters, host: Host) -> str:
    """The architecture; an activation function may name it, as in SAELens 3."""
    named = p.activation_fn is not None and p.activation_fn in host.names("architecture")
    return str(p.activation_fn) if named and p.architecture == "standard" else p.architecture


def contradictions(p: Parameters, host: Host) -> Iterator[str]:
    """Parameters that contradict each other, or that the architecture has no use for."""
    layer = layer_of(p.hook_name)
    if None not in (p.hook_layer, layer) and p.hook_layer != layer:
        yield f"hook_layer: hook_name {p.hook_name} is of layer {layer}, got {p.hook_layer}"
    name = architecture_of(p, host)
    component = _architecture(p, host)
    if component is None:
        return
    fields = attrs.fields_dict(component.config)
    function = p.activation_fn
    if "activation" not in fields and function not in (None, name):
        relu = function == "relu" and not issubclass(component.config, RescaledConfig)
        if not relu:  # the reference's default: gated and jumprelu have it inside
            yield f'activation_fn: architecture {name} has its own, got "{function}"; remove it'
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


def _architecture(p: Parameters, host: Host) -> Component | None:
    name = architecture_of(p, host)
    return host.component("architecture", name) if name in host.names("architecture") else None


def _penalty(component: Component) -> str | None:
    """What the keys of the sparsity penalty begin with, "l1" or "l0", if there is one."""
    fields = attrs.fields_dict(component.config)
    return next((one for one in ("l1", "l0") if f"{one}_coefficient" in fields), None)


def _sae(p: Parameters, host: Host) -> dict[str, Any]:
    name, component = architecture_of(p, host), _architecture(p, host)
    sizes: dict[str, Any] = {"d_in": p.d_in, "d_sae": p.d_sae}
    both = p.d_sae is None and p.expansion_factor is None
    sizes["expansion_factor"] = 4 if both else p.expansion_factor
    table: dict[str, Any] = {
        "architecture": name,
        **{key: one for key, one in sizes.items() if one is not None},
        "normalizer": {"type": p.normalize_activations},
        "dead_latents": {
            "type": "ghost_grads" if p.use_ghost_grads else "none",
            "after_steps": p.dead_feature_window,
        },
        "dtype": p.dtype,
    }
    if component is None:
        return table  # an error says so
    if issubclass(component.config, RescaledConfig) and not p.use_ghost_grads:
        table["dead_latents"]["type"] = "auxk"  # the reference always has the auxiliary loss there
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
