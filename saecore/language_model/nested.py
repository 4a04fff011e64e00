"""The nested configuration of SAELens 6: refused, with the experiment file that says the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import tomli_w

from saecore.config.load import structure_experiment
from saecore.config.structure import Problems, structure
from saecore.errors import ConfigError
from saecore.language_model.parameters import Parameters
from saecore.language_model.translate import SOURCE, contradictions, renamed, tables_of
from saecore.plugins import current_host

RENAMED = {"l0_coefficient": "l1_coefficient", "l0_warm_up_steps": "l1_warm_up_steps"}
"""Settings of JumpReLU in SAELens 6 and the flat parameters that mean the same."""

PLACES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "decoder_init_norm": ("sae.init.decoder_norm", lambda value: value),
    "aux_loss_coefficient": ("sae.dead_latents.coefficient", lambda value: value),
    "seed": ("seed", lambda value: value),
    "autocast": ("training.autocast", lambda value: value),
    "prepend_bos": ("dataset.prepend_bos", lambda value: value),
    "exclude_special_tokens": ("dataset.exclude_special_tokens", lambda value: value),
    "sequence_separator_token": ("dataset.separator", lambda value: value or "none"),
    "disable_concat_sequences": ("dataset.concat", lambda value: not value),
}
"""Other settings of SAELens 6: their keys here, and their values."""


def refusal(settings: Mapping[str, Any]) -> ConfigError:
    """The error for a nested configuration.

    Args:
        settings: its parameters; `sae` and `logger` may be mappings or objects.
    """
    flat, others = _flat(settings)
    try:
        tables = _tables(flat, others)
    except ConfigError as error:
        return ConfigError(SOURCE, ["sae: the nested form of SAELens 6 is not taken; flat, it has "
                                    "problems of its own", *error.problems])  # fmt: skip
    left = ", ".join(sorted(others))
    note = f"# not translated: {left}\n" if left else ""
    text = "sae: the nested form of SAELens 6 is not taken; an experiment file for `saecore run` "
    return ConfigError(SOURCE, [f"{text}that says the same:\n\n{note}{tomli_w.dumps(tables)}"])


def values_of(config: Any) -> dict[str, Any]:
    """The settings in a mapping or an object; an object's architecture may be a method."""
    if isinstance(config, Mapping):
        return dict(config)
    names = [one for one in dir(config) if not one.startswith("_")]
    values = {name: getattr(config, name) for name in names}
    architecture = values.get("architecture")
    found = {name: one for name, one in values.items() if not callable(one)}
    if callable(architecture):
        found["architecture"] = architecture()
    return found


def _flat(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Flat parameters, and what is none."""
    sae = {RENAMED.get(key, key): one for key, one in values_of(settings.get("sae", {})).items()}
    logger = values_of(settings.get("logger", {}))
    outer = {key: one for key, one in settings.items() if key not in ("sae", "logger")}
    if "k" in sae:
        sae["activation_fn_kwargs"] = {"k": sae.pop("k")}
    known = set(attrs.fields_dict(Parameters))
    together = {**logger, **sae, **outer}
    flat = {key: one for key, one in together.items() if key in known and one is not None}
    others = {key: one for key, one in together.items() if key not in known and one is not None}
    return flat, others


def _tables(flat: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """The experiment file; what is translated is taken out of `others`.

    Raises:
        ConfigError: the settings are wrong in themselves.
    """
    host = current_host()
    try:
        parameters: Parameters = structure(flat, Parameters, host)
    except Problems as error:
        raise ConfigError(SOURCE, [f"{key}: {message}" for key, message in error.items]) from None
    tables = tables_of(parameters, host)
    name = tables["sae"]["architecture"]
    if name in host.names("architecture"):
        fields = attrs.fields_dict(host.component("architecture", name).config)
        for key in [one for one in others if one in fields and one not in tables["sae"]]:
            tables["sae"][key] = others.pop(key)
    auxk = tables["sae"]["dead_latents"]["type"] == "auxk"
    for key, (path, value_of) in PLACES.items():
        if key in others and (auxk or key != "aux_loss_coefficient"):
            *parents, last = path.split(".")
            table = tables
            for parent in parents:
                table = table.setdefault(parent, {})
            table[last] = value_of(others.pop(key))
    problems = list(contradictions(parameters, host))
    try:
        structure_experiment(tables, SOURCE, host)
    except ConfigError as error:
        problems += renamed(error.problems)
    if problems:
        raise ConfigError(SOURCE, problems)
    return tables
