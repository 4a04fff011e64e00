"""Check that model, dataset, loss and evaluators of an experiment fit each other."""

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
"""The evaluators of a run that lists none, and what each requires."""

REASONS = {
    "model": "needs a language model, and this run has none",
    "activations": "needs activations, and the dataset has none",
    "truth": "needs the true features, which the dataset does not know",
}


def available(experiment: Any) -> frozenset[str]:
    """Return what evaluators can use: "model", "activations", "truth", and always "weights".

    Args:
        experiment: anything with the attributes `dataset` and `model` of an experiment; either
            may be missing.
    """
    dataset = getattr(experiment, "dataset", None)
    provided: frozenset[str] = dataset.loader.component.provides if dataset else frozenset()
    if "recorded" in provided and getattr(experiment, "model", None) is not None:
        return provided | {"model", "weights"}
    return (provided or frozenset({"model", "activations"})) | {"weights"}


def default_evaluators(experiment: Any) -> list[str]:
    """Return the names of the default evaluators that model and dataset allow."""
    usable = available(experiment)
    return [name for name, requirement in EVALUATORS.items() if requirement in usable]


def mismatches(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Report a missing or surplus model, keys without effect, and evaluators that cannot run."""
    dataset, usable = experiment.dataset, available(experiment)
    name = dataset.loader.name
    yield from _end_to_end(experiment)
    recorded = "recorded" in usable
    if recorded and experiment.model is not None and dataset.loader.config.hook is not None:
        yield "dataset.hook", "[model] names the hooks; remove the key"
    if "model" in usable and not recorded:
        if experiment.model is None:
            yield (
                "model",
                f"missing; a language model has to read dataset {name}: add [model] with "
                'type and hook, or use dataset.type = "synthetic"',
            )
    else:
        if experiment.model is not None and not recorded:
            yield (
                "model",
                f"dataset {name} has activations already and needs no model; remove [model]",
            )
        for path, table in (("dataset", dataset), ("buffer", experiment.buffer)):
            for field in attrs.fields(type(table)):
                allowed = field.name == "seed" or field.default is attrs.NOTHING
                if not allowed and getattr(table, field.name) != field.default:
                    yield (
                        f"{path}.{field.name}",
                        f"dataset {name} has activations, not text; remove the key",
                    )
    for i, evaluator in enumerate(experiment.evaluator):
        requirement = evaluator.component.requires
        if requirement not in usable:
            yield (
                f"evaluator[{i}]",
                f"{evaluator.name} {REASONS[requirement]}; remove it "
                f"(these work here: {', '.join(default_evaluators(experiment))})",
            )


def _end_to_end(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Report settings that are incompatible with a loss through the model."""
    training, dataset, model = experiment.training, experiment.dataset, experiment.model
    if training.loss == "mse":
        return
    if "recorded" in available(experiment):
        yield (
            "training.loss",
            f'"{training.loss}" runs the model on contexts, which dataset '
            f'{dataset.loader.name} does not have; expected "mse"',
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
    for key, is_set in (
        ("model.head", model.head is not None),
        ("dataset.positions", dataset.positions is not None),
        ("dataset.exclude_special_tokens", bool(dataset.exclude_special_tokens)),
    ):
        if is_set:
            yield key, f"every activation is replaced {loss}; remove the key"
    normalizer = experiment.sae.normalizer.name
    if normalizer not in ("none", "constant_norm_rescale", "layer_norm"):
        yield (
            "sae.normalizer",
            f"expected none, constant_norm_rescale or layer_norm {loss}, got {normalizer}",
        )
