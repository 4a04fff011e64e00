"""What an experiment's data allow: with a language model, or from a dataset of activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from saecore.config.experiment import Experiment

EVALUATORS = {
    "reconstruction": "activations",
    "loss_recovered": "model",
    "ground_truth": "truth",
}
"""The evaluators of a run that lists none, and what each needs."""

REASONS = {
    "model": "needs a language model, and this run has none",
    "activations": "needs activations, and the dataset gives none",
    "truth": "needs the true features, which the dataset does not know",
}


def available(experiment: Any) -> frozenset[str]:
    """What evaluators can have: "model", "activations", "truth", and always "weights".

    Args:
        experiment: anything with the attributes `dataset` and `model` of an experiment; either
            may be missing.
    """
    dataset = getattr(experiment, "dataset", None)
    gives: frozenset[str] = dataset.plugin.component.gives if dataset else frozenset()
    if "recorded" in gives and getattr(experiment, "model", None) is not None:
        return gives | {"model", "weights"}
    return (gives or frozenset({"model", "activations"})) | {"weights"}


def default_evaluators(experiment: Any) -> list[str]:
    """The names of the evaluators that the data allow."""
    have = available(experiment)
    return [name for name, needs in EVALUATORS.items() if needs in have]


def mismatches(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Report a model too few or too many, keys that mean nothing, evaluators that cannot work."""
    dataset, have = experiment.dataset, available(experiment)
    name = dataset.plugin.name
    yield from _end_to_end(experiment)
    recorded = "recorded" in have
    if recorded and experiment.model is not None and dataset.plugin.config.hook is not None:
        yield "dataset.hook", "[model] names the hooks; remove the key"
    if "model" in have and not recorded:
        if experiment.model is None:
            yield (
                "model",
                f"missing; dataset {name} has to be read by a language model: add [model] with "
                'type and hook, or use dataset.type = "synthetic"',
            )
    else:
        if experiment.model is not None and not recorded:
            yield "model", f"dataset {name} gives activations itself, no model; remove [model]"
        for path, table in (("dataset", dataset), ("buffer", experiment.buffer)):
            for field in attrs.fields(type(table)):
                kept = field.name == "seed" or field.default is attrs.NOTHING
                if not kept and getattr(table, field.name) != field.default:
                    yield (
                        f"{path}.{field.name}",
                        f"dataset {name} gives activations, not text; remove the key",
                    )
    for i, one in enumerate(experiment.evaluator):
        if one.component.needs not in have:
            yield (
                f"evaluator[{i}]",
                f"{one.name} {REASONS[one.component.needs]}; remove it "
                f"(these work here: {', '.join(default_evaluators(experiment))})",
            )


def _end_to_end(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Report what does not go with a loss through the model."""
    training, dataset, model = experiment.training, experiment.dataset, experiment.model
    if training.loss == "mse":
        return
    if "recorded" in available(experiment):
        yield (
            "training.loss",
            f'"{training.loss}" runs the model on contexts, which dataset '
            f'{dataset.plugin.name} does not have; expected "mse"',
        )
        return
    loss = f'with training.loss = "{training.loss}"'
    if model is None:
        yield "training.loss", f'"{training.loss}" needs a language model; expected "mse"'
        return
    if (training.batch_size // training.accumulate) % dataset.context_size:
        yield (
            "training.batch_size",
            f"expected whole contexts of {dataset.context_size} tokens {loss}, got "
            f"{training.batch_size}"
            + (f" in {training.accumulate} parts" if training.accumulate > 1 else ""),
        )
    for key, given in (
        ("model.head", model.head is not None),
        ("dataset.positions", dataset.positions is not None),
        ("dataset.exclude_special_tokens", bool(dataset.exclude_special_tokens)),
    ):
        if given:
            yield key, f"every activation is replaced {loss}; remove the key"
    normalizer = experiment.sae.normalizer.name
    if normalizer not in ("none", "constant_norm_rescale", "layer_norm"):
        yield (
            "sae.normalizer",
            f"expected none, constant_norm_rescale or layer_norm {loss}, got {normalizer}",
        )
