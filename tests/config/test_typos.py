"""A misspelled key is refused on every way in, at every level: no setting is swallowed."""

import copy
import inspect
import json
import re

import attrs
import pytest
import tomli_w
import torch

import saecore
from saecore.cli import main
from saecore.config.load import load, load_experiment, structure_experiment
from saecore.config.messages import to_tables
from saecore.core.sae_config import Metadata
from saecore.errors import ConfigError
from saecore.evaluation.evaluate import evaluate
from tests.saecore_plugins.evaluators.planted import sae_of

TABLES = {
    "model": {"type": "tiny_lm", "hook": "blocks.2.hook_resid_post"},
    "dataset": {"type": "python_corpus"},
    "sae": {"architecture": "standard", "d_sae": 64, "activation": {"type": "relu"},
            "l0_control": {"target": 4.0}},
    "training": {"tokens": 10_000},
    "logger": [{"type": "console"}],
}  # fmt: skip
FREE = ("sae.metadata", "training.lr_factors")
"""Tables whose keys are the user's own; names in lr_factors are compared with the SAE's."""


def levels(tables, path=""):
    """Every table of an experiment, by dotted path; the root is ""."""
    yield path
    for key, value in tables.items():
        inner = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict) and inner not in FREE:
            yield from levels(value, inner)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for i, item in enumerate(value):
                yield from levels(item, f"{inner}[{i}]")


RESOLVED = to_tables(structure_experiment(TABLES))
"""The experiment with all its defaults: every table and every component that it has."""
LEVELS = list(levels(RESOLVED))
TABLE_LEVELS = [level for level in LEVELS if level and "[" not in level]


def with_typo(level):
    """The resolved experiment with an unknown key in the table at `level`."""
    tables = table = copy.deepcopy(RESOLVED)
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", level):
        table = table[int(index)] if index else table[key]
    table["tpyo"] = 1
    return tables


def key_at(level):
    """The typo's key, as messages write it."""
    return f"{level}.tpyo".lstrip(".")


def refused(call, key):
    """Assert that a call names the unknown key."""
    with pytest.raises(ConfigError) as caught:
        call()
    assert any(problem.startswith(key) for problem in caught.value.problems), caught.value


def test_the_levels_are_all_levels():
    """The list of levels has components of components, arrays of tables and nested tables."""
    nested = {"sae.activation", "sae.init", "training.lr_schedule", "training.checkpoint"}
    assert nested | {"", "model", "logger[0]", "evaluator[0]", "monitor[0]"} < set(LEVELS)


@pytest.mark.parametrize("level", LEVELS)
def test_in_files_and_python(tmp_path, level):
    """A file, a file that is extended, the record of a run, and tables made in Python."""
    tables, key = with_typo(level), key_at(level)
    (tmp_path / "base.toml").write_text(tomli_w.dumps(tables))
    (tmp_path / "top.toml").write_text('extends = "base.toml"\n')
    (tmp_path / "experiment.json").write_text(json.dumps({"experiment": tables}))
    for name in ("base.toml", "top.toml", "experiment.json"):
        refused(lambda name=name: load_experiment(tmp_path / name), key)
    refused(lambda: structure_experiment(tables), key)


@pytest.mark.parametrize("level", ["", *TABLE_LEVELS])
def test_in_settings_and_sweeps(tmp_path, level):
    """`--set`, a grid, a list of grids, and `--set` of a grid."""
    key = key_at(level)
    (tmp_path / "one.toml").write_text(tomli_w.dumps(RESOLVED))
    refused(lambda: load(tmp_path / "one.toml", [f"{key}=1"]), key)
    refused(lambda: load(tmp_path / "one.toml", [f"sweep.{key}=[1]"]), key)
    nested = 2
    for name in reversed(key.split(".")):
        nested = {name: nested}
    for grids in (nested, [nested, {"seed": [1, 2]}]):
        (tmp_path / "grid.toml").write_text(tomli_w.dumps({**RESOLVED, "sweep": grids}))
        with pytest.raises(ConfigError, match=re.escape(f"{key}: unknown key")):
            load(tmp_path / "grid.toml")


@pytest.mark.parametrize("level", ["logger[0]", "evaluator[0]", "loger", "model.hook"])
def test_set_of_what_is_no_table(tmp_path, level):
    """`--set` cannot reach into lists and values; it says so, and changes nothing."""
    (tmp_path / "one.toml").write_text(tomli_w.dumps(RESOLVED))
    with pytest.raises(ConfigError, match=re.escape(level)):
        load(tmp_path / "one.toml", [f"{level}.tpyo=1"])


def sae():
    """An SAE that names model, hook and text, as a trained one does."""
    planted = sae_of(torch.eye(256), torch.eye(256))
    hook = {"hook_name": "blocks.1.hook_resid_post", "model_name": "tiny_lm"}
    metadata = Metadata({**hook, "dataset_path": "python_corpus", "context_size": 32})
    planted.cfg = attrs.evolve(planted.cfg, metadata=metadata)
    return planted


EVALUATION_TYPOS = [
    "evaluation.token", "evaluation.every_tokens", "evaluation.tokens.x", "model.hok",
    "model.hook.x", "dataset.contextsize", "dataset.positions.x", "geometry.duplicat",
    "geometri.duplicate", "evalution.tokens", "tokens",
]  # fmt: skip


@pytest.mark.parametrize("key", EVALUATION_TYPOS)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"evaluators": ["geometry"]}, id="weights"),
        pytest.param({"evaluators": ["geometry", "reconstruction"]}, id="text"),
        pytest.param(
            {"evaluators": ["geometry", "reconstruction"],
             "dataset": torch.zeros(2, 32, dtype=torch.long)}, id="tokens"
        ),
        pytest.param(
            {"evaluators": ["geometry", "reconstruction"],
             "dataset": {"type": "synthetic", "features": 300, "d_in": 256}},
            id="activations",
        ),
    ],
)  # fmt: skip
def test_in_settings_of_an_evaluation(key, options):
    """`settings=` as strings, as a mapping and nested, whichever tables the evaluation reads."""
    name = key.split(".")[0]
    nested = 512
    for part in reversed(key.split(".")):
        nested = {part: nested}
    for settings in ([f"{key}=512"], {key: 512}, nested):
        with pytest.raises(ConfigError) as caught:
            evaluate(sae(), settings=settings, **options)
        assert name in str(caught.value)


def test_in_tables_of_an_evaluation():
    """A value where a table belongs, and a typo in `dataset=`."""
    for settings in ("model=gpt2", "dataset=5", "evaluation=512", "geometry=1"):
        with pytest.raises(ConfigError, match="expected a key of a table"):
            evaluate(sae(), settings=[settings], evaluators=["geometry"])
    table = {"type": "python_corpus", "contextsize": 32}
    with pytest.raises(ConfigError, match="contextsize: unknown key"):
        evaluate(sae(), dataset=table, evaluators=["reconstruction"])


@pytest.mark.parametrize("key", ["evaluation.token", "model.devise", "dataset.contextsize"])
@pytest.mark.parametrize("command", ["evaluate", "dashboard"])
def test_on_the_command_line(tmp_path, capsys, command, key):
    """`--set` of the commands that take an SAE is refused with exit code 2."""
    sae().save_model(tmp_path / "sae")
    with pytest.raises(SystemExit) as end:
        main([command, str(tmp_path / "sae"), "--set", f"{key}=512"])
    assert end.value.code == 2
    assert key.split(".")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [
        {"d_sea": 64},
        {"architecture": "topk", "activation_fn_kwargs": {"k": 4, "kk": 4}},
        {"activation_fn_kwargs": {"kk": 4}},
        {"architecture": "gated", "activation_fn_kwargs": {"kk": 4}},
    ],
)
def test_in_parameters_of_the_runner(settings):
    """A keyword of the runner's configuration, and a key of its one mapping."""
    with pytest.raises(ConfigError, match=r"d_sea|activation_fn_kwargs\.kk"):
        saecore.LanguageModelSAERunnerConfig(**settings)


@pytest.mark.parametrize(
    "function",
    [
        saecore.run, saecore.evaluate, saecore.features, saecore.load_experiment, saecore.splice,
        saecore.attribute, saecore.upload_saes_to_huggingface, saecore.SAE.from_pretrained,
        saecore.SAE.load_from_disk, saecore.SAE.save_model, saecore.ActivationsStore.from_sae,
    ],
    ids=lambda function: function.__qualname__,
)  # fmt: skip
def test_in_keywords(function):
    """No public function collects keywords that it does not know."""
    kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
