"""What an evaluator gives: numbers, numbers per latent, or the reason why it has none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor

from saecore.errors import SaecoreError


@attrs.frozen
class Figure:
    """One number and what it rests on."""

    value: float
    tokens: int
    """Tokens it was measured on; 0 where it is of the weights alone."""
    group: str = ""
    """What it says something about, by the reference's names: sparsity, shrinkage, …"""
    interval: tuple[float, float] | None = None
    """Where it would be with other text, with 95 % confidence; see `saecore.intervals`."""


@attrs.frozen(eq=False)
class Vector:
    """Numbers that belong together: one per latent, or one per label."""

    values: Tensor
    """`[d_sae]`, or `[len(labels)]`; NaN where a latent has no such number."""
    tokens: int
    """Tokens they were measured on; 0 where they are of the weights alone."""
    group: str = "featurewise"
    """As of `Figure`."""
    labels: tuple[str, ...] = ()
    """What each is of; nothing for latents."""


class NotApplicable(SaecoreError):  # noqa: N818 (an answer, no failure)
    """What an evaluator raises that has nothing to measure here; the message is the reason."""


Figures = Mapping[str, Figure | Vector]
"""By name."""


@attrs.frozen
class Measured:
    """What evaluators found, by their names."""

    figures: dict[str, dict[str, Figure]] = attrs.field(factory=dict)
    """Numbers."""
    vectors: dict[str, dict[str, Vector]] = attrs.field(factory=dict)
    """Numbers per latent, or per label."""
    skipped: dict[str, str] = attrs.field(factory=dict)
    """Reasons why an evaluator had nothing to measure."""

    def tables(self) -> dict[str, dict[str, Any]]:
        """The numbers, as evaluation.json holds them."""
        return {
            name: {
                key: attrs.asdict(one, filter=lambda _, value: value not in (None, ""))
                for key, one in found.items()
            }
            for name, found in self.figures.items()
        }

    def as_result(self) -> dict[str, Any]:
        """Everything, as evaluation.json holds it; numbers that are not finite become null."""
        vectors = {
            name: {
                key: {
                    "values": numbers(one.values),
                    "tokens": one.tokens,
                    **({"labels": list(one.labels)} if one.labels else {}),
                }
                for key, one in found.items()
            }
            for name, found in self.vectors.items()
            if found
        }
        figures = {
            name: {key: {**one, "value": finite(one["value"])} for key, one in found.items()}
            for name, found in self.tables().items()
        }
        return {
            "figures": figures,
            **({"vectors": vectors} if vectors else {}),
            **({"skipped": self.skipped} if self.skipped else {}),
        }


def finite(value: float) -> float | None:
    """A number as JSON can hold it: null for what is not finite."""
    return value if math.isfinite(value) else None


def numbers(values: Tensor) -> list[float | None]:
    """The same of several."""
    return [finite(float(one)) for one in values.tolist()]
