"""`saecore.evaluate`: metrics of any SAE on held-out data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.config.checks import REASONS, available
from saecore.config.messages import to_tables
from saecore.core.evaluator import EvaluationResult, Evaluator, HeldOutError, Metric, NotApplicable
from saecore.core.sae import SAE
from saecore.errors import labeled_errors, nearest
from saecore.evaluation.batches import HeldOut
from saecore.evaluation.held_out import open_held_out, site_metadata
from saecore.evaluation.settings import (
    EvaluationSettings,
    check_keys,
    evaluator_choice,
    override,
    structure_settings,
)
from saecore.evaluation.target import EvaluationTarget, resolve_target, update_metadata
from saecore.models.device import pick_device
from saecore.plugins.component import Choice
from saecore.plugins.host import current_host
from saecore.storage.remote_code import remote_code

DEFAULT = ("reconstruction", "loss_recovered", "featurewise", "density", "geometry", "ground_truth")
"""Evaluators without required settings; unless some are named, those run that the data allow."""


@attrs.frozen(eq=False, kw_only=True)
class Evaluation:
    """The result of `saecore.evaluate`."""

    sae: SAE
    """The SAE."""
    measured: EvaluationResult
    """Metrics, metrics per latent, and reasons to skip, by evaluator."""
    settings: Mapping[str, Any]
    """The settings used: the tables [model] and [dataset], and [NAME] of each evaluator."""
    data: Mapping[str, Any]
    """Model, text and number of contexts."""
    name: str
    """The name that the SAE was requested by."""
    run: Path | None = None
    """The run's directory, if a run was evaluated."""

    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics in SAELens' groups, in the layout of SAELens' `run_evals`."""
        groups: dict[str, dict[str, float]] = {}
        for metrics in self.measured.figures.values():
            for name, metric in metrics.items():
                groups.setdefault(metric.group or "other", {})[name] = metric.value
        stats = {
            key: float(self.figure(name).tokens)
            for key, name in TOKEN_STATS.items()
            if self.has(name)
        }
        return {**groups, **({"token_stats": stats} if stats else {})}

    def featurewise(self) -> dict[str, Tensor]:
        """Metrics per latent `[d_sae]`, like the second result of SAELens' `run_evals`."""
        return {
            name: metric.values
            for vectors in self.measured.vectors.values()
            for name, metric in vectors.items()
            if metric.group == "featurewise"
        }

    def has(self, name: str) -> bool:
        """Whether there is a metric of this name."""
        return any(name in metrics for metrics in self.measured.figures.values())

    def figure(self, name: str) -> Metric:
        """A metric by name.

        Raises:
            KeyError: there is none.
        """
        for metrics in self.measured.figures.values():
            if name in metrics:
                return metrics[name]
        known = sorted({key for metrics in self.measured.figures.values() for key in metrics})
        raise KeyError(f"no figure {name!r}{nearest(name, known)}")


TOKEN_STATS = {
    "total_tokens_eval_reconstruction": "kl_div_with_sae",
    "total_tokens_eval_sparsity_variance": "l0",
}
"""SAELens' token counts, and the metrics whose tokens they count."""


def evaluate(
    sae: SAE | str | Path,
    *,
    model: Any = None,
    dataset: str | Mapping[str, Any] | Tensor | None = None,
    evaluators: Sequence[str] | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    trust_remote_code: bool = False,
) -> Evaluation:
    """Measure an SAE on held-out text.

    Args:
        sae: an SAE; the directory of a run or of a checkpoint in it, whose experiment names the
            model and text; or anything that `saecore convert` reads: a directory, a file,
            `RELEASE:SAE_ID`, `user/repo:path`.
        model: a name or path, a model plugin such as "tiny_lm", or a loaded model (transformers,
            TransformerLens bridge, ModelBackend); default: the SAE's own.
        dataset: a name or path, a dataset plugin, the keys of a [dataset] table, or tokens
            `[n, T]`; default: the SAE's own.
        evaluators: names; default: those of `DEFAULT` that the data allow, and those of the run.
        settings: `key=value` strings, or a mapping of keys to values: model.*, dataset.*,
            evaluation.tokens, and NAME.* of an evaluator NAME.
        trust_remote_code: run the Python code that comes with the model, if any.

    Raises:
        SaecoreError: the SAE, model or text does not exist, or they do not fit each other.
    """
    target = resolve_target(sae)
    layers = override(target, model, dataset, settings)
    loaded = None if isinstance(model, str) else model
    tokens = dataset if isinstance(dataset, Tensor) else None
    names = list(dict.fromkeys(evaluators or ()))
    choices = {name: evaluator_choice(layers, name) for name in names}
    chosen, held_out = EvaluationSettings(), HeldOut()
    if not names or _need_data(choices):
        chosen = structure_settings(
            layers, loaded_model=loaded is not None, tokens_given=tokens is not None
        )
        if not names:
            names = _default(available(chosen), target)
            choices = {name: evaluator_choice(layers, name) for name in names}
    check_keys(layers, names)
    if _need_data(choices):
        with remote_code(trust_remote_code), labeled_errors(target.name):
            held_out = open_held_out(target.sae, chosen, loaded, tokens)
        if "model" in held_out.provides:
            update_metadata(target.sae, site_metadata(chosen))
            if target.sae is not sae and chosen.model is not None:  # loaded here, so ours to move
                target.sae.to(pick_device(chosen.model.device))
    tables = {"model": chosen.model, "dataset": chosen.dataset}
    return Evaluation(
        sae=target.sae,
        measured=_measure(target.sae, held_out, choices),
        settings={
            **{name: to_tables(table) for name, table in tables.items() if table is not None},
            **{name: to_tables(choice.config) for name, choice in choices.items()},
        },
        data=held_out.record,
        name=target.name,
        run=target.run,
    )


def _measure(sae: SAE, held_out: HeldOut, choices: Mapping[str, Choice]) -> EvaluationResult:
    """Run the evaluators that the data allow, and record why the others are skipped."""
    requires = {name: choice.component.requires for name, choice in choices.items()}
    allowed = [name for name in choices if requires[name] in held_out.provides]
    result = run_evaluators(sae, held_out, {name: choices[name].build() for name in allowed})
    for name in choices:
        if name not in allowed:
            result.skipped[name] = REASONS[requires[name]].replace("this run", "this evaluation")
    return result


def _need_data(choices: Mapping[str, Choice]) -> bool:
    return any(choice.component.requires != "weights" for choice in choices.values())


def _default(provided: frozenset[str], target: EvaluationTarget) -> list[str]:
    """The evaluators that run if none are named."""
    host = current_host()
    installed = [name for name in DEFAULT if name in host.names("evaluator")]
    names = [name for name in installed if host.component("evaluator", name).requires in provided]
    return list(dict.fromkeys([*names, *target.evaluators]))


def run_evaluators(
    sae: SAE, held_out: HeldOut, evaluators: Mapping[str, Evaluator]
) -> EvaluationResult:
    """Run evaluators; runs, `saecore evaluate` and `saecore verify-release` all measure this way.

    Args:
        sae: an SAE that takes raw activations; its metadata name the hooks.
        held_out: the data.
        evaluators: by name.
    """
    result = EvaluationResult()
    for name, evaluator in evaluators.items():
        try:
            with torch.no_grad():
                answer = evaluator(sae, held_out)
        except HeldOutError as error:
            answer = NotApplicable(str(error))
        result.add(name, answer)
    return result
