"""Reject the nested configuration of SAELens 6 with an equivalent experiment file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import tomli_w

from saecore.config.load import structure_experiment
from saecore.errors import ConfigError
from saecore.plugins.host import current_host
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure
from saecore.saelens.parameters import Parameters
from saecore.saelens.translate import LABEL, contradictions, renamed, tables_of

RENAMED = {"l0_coefficient": "l1_coefficient", "l0_warm_up_steps": "l1_warm_up_steps"}
"""JumpReLU settings of SAELens 6, and the equivalent flat parameters."""

KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "decoder_init_norm": ("sae.init.decoder_norm", lambda value: value),
    "aux_loss_coefficient": ("sae.dead_latents.coefficient", lambda value: value),
    "seed": ("seed", lambda value: value),
    "autocast": ("training.autocast", lambda value: value),
    "prepend_bos": ("dataset.prepend_bos", lambda value: value),
    "exclude_special_tokens": ("dataset.exclude_special_tokens", lambda value: value),
    "sequence_separator_token": ("dataset.separator", lambda value: value or "none"),
    "disable_concat_sequences": ("dataset.concat", lambda value: not value),
}
"""Other settings of SAELens 6, with their keys here and a conversion of their values."""


def refusal(settings: Mapping[str, Any]) -> ConfigError:
    """Build the error for a nested configuration.

    Args:
        settings: the parameters; `sae` and `logger` may be mappings or objects.
    """
    flat, others = _flat(settings)
    try:
        tables = _tables(flat, others)
    except ConfigError as error:
        reason = (
            "sae: the nested configuration of SAELens 6 is not supported, and it has other problems"
        )
        return ConfigError([reason, *error.problems], label=LABEL)
    untranslated = ", ".join(sorted(others))
    note = f"# not translated: {untranslated}\n" if untranslated else ""
    text = "sae: the nested configuration of SAELens 6 is not supported; use this experiment file "
    return ConfigError([f"{text}with `saecore run`:\n\n{note}{tomli_w.dumps(tables)}"], label=LABEL)


def values_of(config: Any) -> dict[str, Any]:
    """The settings of a mapping or an object; the architecture of an object may be a method."""
    if isinstance(config, Mapping):
        return dict(config)
    names = [name for name in dir(config) if not name.startswith("_")]
    attributes = {name: getattr(config, name) for name in names}
    architecture = attributes.get("architecture")
    values = {name: value for name, value in attributes.items() if not callable(value)}
    if callable(architecture):
        values["architecture"] = architecture()
    return values


def _flat(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the settings into flat parameters and others."""
    nested = values_of(settings.get("sae", {}))
    sae = {RENAMED.get(key, key): value for key, value in nested.items()}
    logger = values_of(settings.get("logger", {}))
    outer = {key: value for key, value in settings.items() if key not in ("sae", "logger")}
    if "k" in sae:
        sae["activation_fn_kwargs"] = {"k": sae.pop("k")}
    known = set(attrs.fields_dict(Parameters))
    merged = {k: v for k, v in {**logger, **sae, **outer}.items() if v is not None}
    flat = {key: value for key, value in merged.items() if key in known}
    others = {key: value for key, value in merged.items() if key not in known}
    return flat, others


def _tables(flat: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """The tables of the experiment file; translated settings are removed from `others`.

    Raises:
        ConfigError: the settings are invalid.
    """
    host = current_host()
    try:
        parameters: Parameters = structure(flat, Parameters)
    except Problems as error:
        raise ConfigError(
            [f"{key}: {message}" for key, message in error.items], label=LABEL
        ) from None
    tables = tables_of(parameters)
    name = tables["sae"]["architecture"]
    if name in host.names("architecture"):
        fields = attrs.fields_dict(host.component("architecture", name).config)
        for key in [key for key in others if key in fields and key not in tables["sae"]]:
            tables["sae"][key] = others.pop(key)
    auxk = tables["sae"]["dead_latents"]["type"] == "auxk"
    for key, (path, value_of) in KEYS.items():
        if key in others and (auxk or key != "aux_loss_coefficient"):
            *parents, last = path.split(".")
            table = tables
            for parent in parents:
                table = table.setdefault(parent, {})
            table[last] = value_of(others.pop(key))
    problems = list(contradictions(parameters))
    try:
        structure_experiment(tables, LABEL)
    except ConfigError as error:
        problems += renamed(error.problems)
    if problems:
        raise ConfigError(problems, label=LABEL)
    return tables
