"""Flat parameters become experiments, strictly; the nested form is refused with its TOML."""

import re
import tomllib
import typing
from types import SimpleNamespace

import attrs
import pytest

from saecore import LanguageModelSAERunnerConfig, SAETrainingRunner, load_experiment
from saecore.cli import COMMANDS
from saecore.config.experiment import Experiment
from saecore.errors import ConfigError
from saecore.plugins.host import current_host
from saecore.saelens.names import INSTEAD, TOML, absent
from saecore.saelens.parameters import Parameters


def refused(**given):
    """The lines with which parameters are refused."""
    with pytest.raises(ConfigError) as caught:
        LanguageModelSAERunnerConfig(**given)
    return caught.value.problems


def test_schedules_names_and_trackers():
    """Schedules by their names there, TransformerLens' model names, text by name, trackers."""
    experiment = LanguageModelSAERunnerConfig(
        model_name="pythia-70m-deduped",
        lr_scheduler_name="cosineannealingwarmrestarts",
        lr_decay_steps=7,
        log_to_wandb=True,
        wandb_project="mine",
        normalize_activations="expected_average_only_in",
    ).experiment()
    assert experiment.model.backend.config.name == "EleutherAI/pythia-70m-deduped"
    schedule = experiment.training.lr_schedule
    assert (schedule.name, schedule.config.decay_steps) == ("cosineannealingwarmrestarts", 7)
    assert [(one.name, one.config.project) for one in experiment.logger] == [("wandb", "mine")]
    assert experiment.sae.normalizer.name == "expected_average_only_in"
    assert experiment.dataset.loader.name == "python_corpus"


def test_ghost_grads():
    """The setting names the strategy, with the window in steps, whatever the architecture."""
    topk = {"architecture": "topk", "activation_fn_kwargs": {"k": 3}}
    cfg = LanguageModelSAERunnerConfig(use_ghost_grads=True, dead_feature_window=7, **topk)
    strategy = cfg.experiment().sae.dead_latents
    assert (strategy.name, strategy.config.after_steps) == ("ghost_grads", 7)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lrr": 1.0}, 'lrr: unknown key; did you mean "lr"?'),
        ({"lr": "4e-4"}, "lr: expected a finite number"),
        ({"training_tokens": True}, "training_tokens: expected an integer"),
        ({"architecture": "tokp"}, 'did you mean "topk"?'),
        ({"architecture": "topk"}, "activation_fn_kwargs.k: missing"),
        ({"architecture": "gated", "activation_fn": "topk"}, "activation_fn: architecture gated"),
        ({"activation_fn": "tanh-relu"}, 'activation_fn: no activation named "tanh-relu"'),
        ({"lr_scheduler_name": "cosine"}, "lr_scheduler_name: no schedule"),
        ({"hook_name": "blocks.8.hook_resid_pre", "hook_layer": 7}, "hook_layer: hook_name"),
        ({"d_sae": 64, "expansion_factor": 4}, "d_sae: expected exactly one of"),
        (
            {"activation_fn": "topk", "activation_fn_kwargs": {"k": 5}, "l1_coefficient": 1.0},
            "l1_coefficient: architecture topk has no sparsity penalty",
        ),
        (
            {"activation_fn": "topk", "activation_fn_kwargs": {"k": 5, "dtype": "float16"}},
            "activation_fn_kwargs.dtype: no setting of an activation",
        ),
        ({"architecture": "gated", "lp_norm": 0.5}, "lp_norm: architecture gated has no Lp"),
        ({"use_cached_activations": True}, "use_cached_activations: no parameter here"),
        ({"seed": 42}, "seed: no parameter here; set seed in the experiment file"),
    ],
)
def test_wrong_parameters(given, said):
    """One line that names the parameter as it was given."""
    (line,) = refused(**given)
    assert said in line


def exists(path, cls=Experiment):
    """Whether a dotted key can be set in some experiment file."""
    head, _, rest = path.partition(".")
    field = attrs.fields_dict(cls).get(head)
    kinds = {key: value.metadata.get("choice") for key, value in attrs.fields_dict(cls).items()}
    inline = [one.metadata["inline"] for one in attrs.fields(cls) if "inline" in one.metadata]
    host = current_host()
    if field is None:  # the tag of an inline component, or a key of one
        configs = [
            host.component(kind, name).config for kind in inline for name in host.names(kind)
        ]
        return bool(inline) and (head == "type" or any(exists(path, one) for one in configs))
    if not rest:
        return True
    if kinds[head]:
        configs = [host.component(kinds[head], one).config for one in host.names(kinds[head])]
        return any(exists(rest, one) for one in configs)
    types = typing.get_args(typing.get_type_hints(cls)[head]) or [typing.get_type_hints(cls)[head]]
    return any(attrs.has(one) and exists(rest, one) for one in types)


@pytest.mark.parametrize("name", [*TOML, *INSTEAD])
def test_what_is_named_in_place_of_a_parameter_exists(name):
    """A refusal names keys, commands and calls that are there to be used."""
    assert name not in attrs.fields_dict(Parameters)
    (line,) = refused(**{name: 1})
    assert line == f"{name}: {absent(name)}"
    if name in TOML:
        assert exists(TOML[name].strip("[]"))
        return
    keys = re.findall(r"\b(?:model|dataset|sae|training)\.\w+", line)
    assert all(exists(key) for key in keys)
    commands = re.findall(r"`saecore ([\w-]+)", line)
    assert all(command in COMMANDS for command in commands)
    calls = "SAETrainingRunner(cfg).run(resume=True)" in line
    assert keys or commands or calls or line.endswith("remove it")
    if name.endswith("cached_activations") or name.startswith("cached_activations"):
        assert commands == ["cache"]
        assert "cached" in current_host().names("dataset")


def test_no_key_is_taken_for_granted():
    """The check of keys itself tells keys that exist from others."""
    for key in ("sae.k", "training.lr_schedule.end", "dataset.type", "dataset.path", "model.dtype"):
        assert exists(key), key
    for key in ("sae.kk", "training.compile", "dataset.noise", "sae.init.k"):
        assert not exists(key), key


def test_all_problems_at_once():
    """Wrong names, types and plugins are reported together."""
    assert len(refused(lrr=1, lr=-1.0, seed=0)) == 3
    assert len(refused(dtype="int8", hook_layer=9, normalize_activations="x")) == 3


def test_every_parameter_is_described():
    """Each has a description, which is not that of a neighbor."""
    from saecore.config.messages import field_docs

    docs = field_docs(LanguageModelSAERunnerConfig)
    assert set(docs) == set(Parameters.__annotations__)
    assert len(set(docs.values())) == len(docs)


# -- the nested form of SAELens 6 ----------------------------------------------------------------


class V6:
    """An object shaped like a training configuration of SAELens 6."""

    d_in, d_sae, k, normalize_activations = 256, 512, 8, "none"
    aux_loss_coefficient, decoder_init_norm = 0.5, 0.2

    @classmethod
    def architecture(cls):
        """Its architecture."""
        return "topk"


@pytest.mark.parametrize(
    "sae", [V6(), {**{k: v for k, v in vars(V6).items() if k[0] != "_"}, "architecture": "topk"}]
)
def test_a_nested_configuration_is_refused_with_its_toml(sae, tmp_path):
    """The message holds an experiment file that loads and says the same."""
    given = {
        "sae": sae,
        "training_tokens": 10_000,
        "logger": {"log_to_wandb": True, "wandb_project": "mine"},
        "seed": 3,
        "compile_llm": True,
    }
    for call in (
        lambda: LanguageModelSAERunnerConfig(**given),
        lambda: SAETrainingRunner(SimpleNamespace(**given)),
    ):
        with pytest.raises(ConfigError, match="# not translated: compile_llm") as caught:
            call()
        text = str(caught.value).partition(":\n\n")[2]
        (tmp_path / "v6.toml").write_text(text)
        experiment, _ = load_experiment(tmp_path / "v6.toml")
        assert tomllib.loads(text)["sae"]["k"] == 8
        assert experiment.sae.dead_latents.config.coefficient == 0.5
        assert experiment.sae.init.decoder_norm == 0.2
        assert (experiment.seed, experiment.training.tokens) == (3, 10_000)
        assert experiment.logger[0].config.project == "mine"


def test_a_nested_configuration_with_mistakes():
    """Its own problems are reported in place of a file that would not load."""
    (first, *rest) = refused(sae={"architecture": "topk", "d_sae": 512})
    assert "nested configuration" in first
    assert rest == ["activation_fn_kwargs.k: missing; it has no default"]
