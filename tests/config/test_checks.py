"""Experiments with and without a language model: what fits together, and what is said if not."""

import pytest

from saecore.config import structure_experiment
from saecore.errors import ConfigError
from saecore.plugins.host import Host

SYNTHETIC = {"type": "synthetic", "features": 8, "d_in": 4, "active": 1.0}
MODEL = {"type": "tiny_lm", "hook": "blocks.2.hook_resid_post"}


def tables(**sections):
    """An experiment on synthetic activations with other or more tables; None removes one."""
    base = {
        "dataset": SYNTHETIC,
        "sae": {"architecture": "topk", "d_sae": 8, "k": 1},
        "training": {"tokens": 10_000},
    }
    return {name: one for name, one in {**base, **sections}.items() if one is not None}


def problems(**sections):
    """The problem lines of an experiment that is refused."""
    with pytest.raises(ConfigError) as caught:
        structure_experiment(tables(**sections))
    return caught.value.problems


def test_a_synthetic_experiment_needs_no_model():
    """Without [model] and [[evaluator]] it gets the evaluators that fit."""
    experiment = structure_experiment(tables())
    assert experiment.model is None
    assert [one.name for one in experiment.evaluator] == ["reconstruction", "ground_truth"]
    with pytest.raises(LookupError):
        _ = experiment.language_model


def test_a_text_experiment_has_the_evaluators_of_text():
    """With a model the defaults are those that need one, or activations."""
    experiment = structure_experiment(tables(model=MODEL, dataset={"type": "python_corpus"}))
    assert [one.name for one in experiment.evaluator] == ["reconstruction", "loss_recovered"]


def test_text_without_a_model():
    """The missing table is named, with both ways out."""
    (line,) = problems(dataset={"type": "python_corpus"})
    assert line.startswith("model: missing; a language model has to read dataset python_corpus")
    assert "add [model]" in line
    assert 'dataset.type = "synthetic"' in line


def test_a_model_too_many():
    """Hooks have no meaning for synthetic activations: refused, not ignored."""
    (line,) = problems(model=MODEL)
    assert (
        line
        == "model: dataset synthetic has activations already and needs no model; remove [model]"
    )


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"dataset": {**SYNTHETIC, "context_size": 64}}, "dataset.context_size"),
        ({"dataset": {**SYNTHETIC, "separator": "none"}}, "dataset.separator"),
        ({"buffer": {"tokens": 1000}}, "buffer.tokens"),
    ],
)
def test_keys_of_text_are_refused(sections, key):
    """Keys that only text has are not dropped in silence."""
    assert f"{key}: dataset synthetic has activations, not text; remove the key" in problems(
        **sections
    )


def test_the_seed_is_not_a_key_of_text():
    """dataset.seed decides the rows of every dataset."""
    experiment = structure_experiment(tables(dataset={**SYNTHETIC, "seed": 3}))
    assert experiment.dataset.seed == 3


def test_evaluators_that_do_not_fit():
    """Each is named with its place, its reason and those that would work."""
    chosen = [{"type": "reconstruction"}, {"type": "loss_recovered"}]
    (line,) = problems(evaluator=chosen)
    assert line == (
        "evaluator[1]: loss_recovered needs a language model, and this run has none; "
        "remove it (these work here: reconstruction, ground_truth)"
    )
    text = {"model": MODEL, "dataset": {"type": "python_corpus"}}
    (line,) = problems(**text, evaluator=[{"type": "ground_truth"}])
    assert line == (
        "evaluator[0]: ground_truth needs the true features, which the dataset does not know; "
        "remove it (these work here: reconstruction, loss_recovered)"
    )


def test_the_table_of_defaults_agrees_with_the_plugins():
    """What the core thinks its default evaluators need is what they say themselves."""
    from saecore.config.checks import EVALUATORS

    found = {name: Host().component("evaluator", name).requires for name in EVALUATORS}
    assert found == EVALUATORS


def test_factors_of_the_learning_rate():
    """A table of numbers; each that is none, or below zero, is named."""
    training = {"tokens": 10_000, "lr_factors": {"b_dec": 0.1, "W_enc": 2}}
    assert structure_experiment(tables(training=training)).training.lr_factors == {
        "b_dec": 0.1,
        "W_enc": 2.0,
    }
    training["lr_factors"] = {"b_dec": "0.1", "W_enc": True}
    assert problems(training=training) == [
        'training.lr_factors.b_dec: expected a finite number, got "0.1"; write 0.1 without quotes',
        "training.lr_factors.W_enc: expected a finite number, got true",
    ]
    training["lr_factors"] = {"b_dec": -0.1}
    assert problems(training=training) == [
        "training.lr_factors.b_dec: expected at least 0, got -0.1"
    ]
