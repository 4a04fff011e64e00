"""Evaluators and their results: metrics, metrics per latent, and reasons to skip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from torch import Tensor

from saecore.core.sae import SAE
from saecore.errors import SaecoreError

if TYPE_CHECKING:
    from saecore.evaluation.batches import HeldOut


@attrs.frozen
class Metric:
    """One number, and the data behind it."""

    value: float
    tokens: int
    """Number of tokens it was measured on; 0 if it depends on the weights alone."""
    group: str = attrs.field(default="", kw_only=True)
    """The metric's group, as SAELens and SAEBench name it: sparsity, shrinkage, …"""
    interval: tuple[float, float] | None = attrs.field(default=None, kw_only=True)
    """95 % confidence interval over text of the same kind; see `saecore.evaluation.intervals`."""


@attrs.frozen(eq=False)
class LatentMetric:
    """One number per latent, or per label."""

    values: Tensor
    """`[d_sae]`, or `[len(labels)]`; NaN where the number is undefined."""
    tokens: int
    """Number of tokens they were measured on; 0 if they depend on the weights alone."""
    group: str = attrs.field(default="featurewise", kw_only=True)
    """The metric's group, as for `Metric`."""
    labels: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """Name of each value; empty if the values belong to latents."""


Metrics = Mapping[str, Metric | LatentMetric]
"""Metrics by name."""


@attrs.frozen
class NotApplicable:
    """An evaluator's answer when it has nothing to measure."""

    reason: str
    """Why, in words that fit behind "NAME skipped: "."""


class HeldOutError(SaecoreError):
    """An evaluator asked `HeldOut` for data that it does not have; the evaluator is skipped."""


class Evaluator(Protocol):
    """Measures an SAE. This is what `build` of an evaluator component returns."""

    def __call__(self, sae: SAE, held_out: HeldOut, /) -> Metrics | NotApplicable:
        """Compute metrics; runs without gradients.

        Args:
            sae: an SAE that takes raw activations. Its metadata name the hook.
            held_out: contexts and their model, or rows of activations. The component's `requires`
                decides what is there: "model" (`held_out.model` and `held_out.contexts`), "truth"
                (`held_out.truth` and `held_out.rows`), "activations" (`held_out.parts`), or
                "weights" (nothing).

        Returns:
            Metrics by name, or `NotApplicable` with the reason.
        """
        ...


@attrs.frozen
class EvaluationResult:
    """The results of several evaluators, by the evaluator's name."""

    figures: dict[str, dict[str, Metric]] = attrs.field(factory=dict)
    """Single numbers."""
    vectors: dict[str, dict[str, LatentMetric]] = attrs.field(factory=dict)
    """Numbers per latent or label."""
    skipped: dict[str, str] = attrs.field(factory=dict)
    """Why an evaluator had nothing to measure."""

    def add(self, name: str, answer: Metrics | NotApplicable) -> None:
        """Store the answer of the evaluator `name`."""
        if isinstance(answer, NotApplicable):
            self.skipped[name] = answer.reason
            answer = {}
        self.figures[name] = {
            key: metric for key, metric in answer.items() if isinstance(metric, Metric)
        }
        self.vectors[name] = {
            key: metric for key, metric in answer.items() if isinstance(metric, LatentMetric)
        }

    def tables(self) -> dict[str, dict[str, Any]]:
        """The single numbers in the layout of evaluation.json."""
        return {
            name: {
                key: attrs.asdict(metric, filter=lambda _, value: value not in (None, ""))
                for key, metric in metrics.items()
            }
            for name, metrics in self.figures.items()
        }

    def as_result(self) -> dict[str, Any]:
        """Everything in the layout of evaluation.json; NaN and infinity become null."""
        vectors = {
            name: {
                key: {
                    "values": finite_values(metric.values),
                    "tokens": metric.tokens,
                    **({"labels": list(metric.labels)} if metric.labels else {}),
                }
                for key, metric in metrics.items()
            }
            for name, metrics in self.vectors.items()
            if metrics
        }
        figures = {
            name: {key: {**table, "value": finite(table["value"])} for key, table in tables.items()}
            for name, tables in self.tables().items()
        }
        return {
            "figures": figures,
            **({"vectors": vectors} if vectors else {}),
            **({"skipped": self.skipped} if self.skipped else {}),
        }


def finite(value: float) -> float | None:
    """A number for JSON: null if it is NaN or infinite."""
    return value if math.isfinite(value) else None


def finite_values(values: Tensor) -> list[float | None]:
    """`finite` of every element of a vector."""
    return [finite(float(value)) for value in values.tolist()]
