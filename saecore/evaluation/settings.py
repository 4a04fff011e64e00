"""Settings of an evaluation: the SAE's own tables, with overrides, structured and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from torch import Tensor

from saecore.config.experiment import DatasetTable, EvaluationTable, ModelTable
from saecore.config.from_metadata import model_table, text_table
from saecore.config.layers import Layers, add_setting, add_value, merge
from saecore.config.messages import config_error, origin_of
from saecore.errors import ConfigError, nearest
from saecore.evaluation.target import EvaluationTarget
from saecore.plugins.component import Choice
from saecore.plugins.fields import at_least
from saecore.plugins.host import current_host
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure, structure_choice

TABLES = ("model", "dataset", "evaluation")
"""The tables of an experiment that matter to an evaluation."""


@attrs.frozen
class EvaluationSettings:
    """The tables of an experiment that matter to an evaluation."""

    model: ModelTable | None = None
    """The language model and the hook."""
    dataset: DatasetTable | None = None
    """The text."""
    evaluation: EvaluationTable = attrs.field(factory=EvaluationTable)
    """How much text."""


def override(
    target: EvaluationTarget,
    model: Any,
    dataset: str | Mapping[str, Any] | Tensor | None,
    settings: Sequence[str] | Mapping[str, Any],
) -> Layers:
    """Merge the caller's choices over the target's own tables.

    Args:
        target: the SAE with the tables it or its run records.
        model: name or path of another model; anything but a string is ignored.
        dataset: name, path or [dataset] table of another text; tokens are ignored.
        settings: `key=value` strings, or a mapping of dotted keys to values.

    Raises:
        ConfigError: a setting is malformed.
    """
    layers = Layers(target.name)
    merge(layers, {**target.tables, **target.evaluators}, target.name)
    if isinstance(model, str):
        _replace(layers, "model", model_table(model, target.sae.cfg.metadata))
    if isinstance(dataset, str):
        _replace(layers, "dataset", text_table(dataset))
    elif isinstance(dataset, Mapping):
        _replace(layers, "dataset", dataset)
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            add_value(layers, key, value)
    else:
        for setting in settings:
            add_setting(layers, setting)
    plain = {name: value for name, value in layers.tables.items() if not isinstance(value, Mapping)}
    if plain:
        problems = [
            f"{name}: expected a key of a table, such as evaluation.tokens, got {value!r}"
            for name, value in plain.items()
        ]
        raise ConfigError(problems, label=layers.label)
    return layers


@attrs.frozen
class _EvaluationKeys:
    """The keys of [evaluation] that matter to an evaluation."""

    tokens: int = attrs.field(default=0, validator=at_least(0))


CHECKED: Mapping[str, tuple[type[Any], Mapping[str, Any]]] = {
    "model": (ModelTable, {"type": "tiny_lm"}),
    "dataset": (DatasetTable, {"type": "python_corpus"}),
    "evaluation": (_EvaluationKeys, {}),
}
"""Class of each table, and a valid component for tables that do not name theirs."""

COMPONENTS = {"model": (ModelTable, "backend"), "dataset": (DatasetTable, "loader")}
"""Class of a table, and its field that holds the component."""


def _replace(layers: Layers, name: str, component: Mapping[str, Any]) -> None:
    """Put another component into a table; keys of the table itself, such as the hook, stay."""
    cls, component_field = COMPONENTS[name]
    common = {field.name for field in attrs.fields(cls)} - {component_field}
    old = {key: value for key, value in layers.tables.get(name, {}).items() if key in common}
    layers.tables[name] = {}
    merge(layers, {name: {**component, **old}}, f"--{name}")


def evaluator_choice(layers: Layers, name: str) -> Choice:
    """An evaluator with its settings.

    Raises:
        ConfigError: a setting is wrong.
        PluginError: there is no such evaluator.
    """
    current_host().component("evaluator", name)
    table = {**layers.tables.get(name, {}), "type": name}
    try:
        return structure_choice("evaluator", table)
    except Problems as error:
        problems = [(f"{name}.{key}" if key else name, problem) for key, problem in error.items]
        raise config_error(layers, problems) from None


def check_keys(layers: Layers, names: Sequence[str]) -> None:
    """Reject overrides that match no table or evaluator, and misspelled keys of every table.

    Tables that the evaluation does not read are checked, too: a typo in one is still a typo.

    Args:
        layers: the merged tables.
        names: evaluators that will run.

    Raises:
        ConfigError: an override matches nothing.
    """
    known = [*TABLES, *names]
    overridden = {
        path.split(".")[0] for path, origin in layers.origins.items() if origin == "--set"
    }
    problems = [
        f"{key}: expected a key of {', '.join(TABLES)}, or of an evaluator that runs "
        f"({', '.join(names)}){nearest(key, known)}"
        for key in layers.tables
        if key not in known and key in overridden
    ]
    if problems:
        raise ConfigError(problems, label=layers.label)
    for name in overridden.intersection(TABLES):
        _check_overrides(layers, name)


def _check_overrides(layers: Layers, name: str) -> None:
    """Reject overrides of one table that are wrong whatever else the table lacks.

    Raises:
        ConfigError: an override is of an unknown key, or has an impossible value.
    """
    cls, default = CHECKED[name]
    try:
        structure({**default, **layers.tables[name]}, cls)
    except Problems as error:
        items = [(f"{name}.{key}" if key else name, problem) for key, problem in error.items]
        overrides = [item for item in items if origin_of(layers, item[0]) == "--set"]
        if overrides:
            raise config_error(layers, overrides) from None


def structure_settings(
    layers: Layers, *, loaded_model: bool = False, tokens_given: bool = False
) -> EvaluationSettings:
    """Structure and check the tables.

    Args:
        layers: the merged tables.
        loaded_model: whether the caller has a model; [model] then only has to name the hook.
        tokens_given: whether the caller has tokens; [dataset] is then ignored.

    Raises:
        ConfigError: a key is wrong, or the model or text is unknown.
    """
    tables = {name: layers.tables[name] for name in TABLES if name in layers.tables}
    problems = []
    if tokens_given:
        tables.pop("dataset", None)
    elif "type" not in tables.get("dataset", {}):
        problems.append("dataset: the SAE does not say on what text it was trained; give --dataset")
    if _is_activations(tables.get("dataset", {})):
        tables.pop("model", None)  # there is none to read
    elif loaded_model:
        hooks = tables.get("model", {})
        tables["model"] = {**hooks, "type": hooks.get("type", "tiny_lm")}  # any valid type
    elif "model" in tables and "type" not in tables["model"]:
        problems.append("model: the SAE does not say what model it reads; give --model")
    if problems:
        raise ConfigError(problems, label=layers.label)
    tokens = tables.get("evaluation", {}).get("tokens")
    tables["evaluation"] = {"tokens": tokens} if tokens else {}
    try:
        settings: EvaluationSettings = structure(tables, EvaluationSettings)
    except Problems as error:
        raise config_error(layers, error.items) from None
    return settings


def _is_activations(table: Mapping[str, Any]) -> bool:
    """Whether a dataset provides activations that come from no model."""
    name = table.get("type")
    if name not in current_host().names("dataset"):
        return False
    provides = current_host().component("dataset", name).provides
    return "activations" in provides and "recorded" not in provides
