"""Agreement of the decoder rows of two SAEs, for example of two seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, at_least, between, hookimpl

if TYPE_CHECKING:
    from saecore.core.evaluator import Evaluator, Metric, Metrics, NotApplicable
    from saecore.core.sae import SAE


@attrs.frozen
class StabilityConfig:
    """The other SAE."""

    other: str
    """The SAE to compare with, trained on the same hook, for example with another seed: a run's
    directory, or anything that `saecore convert` reads."""
    shared: float = attrs.field(default=0.7, validator=between(0, 1))
    """Cosine above which two latents count as the same feature."""
    max_latents: int = attrs.field(default=8192, validator=at_least(1))
    """Match latents one to one only up to this number; the time is cubic."""


def build(config: StabilityConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, config)


def measure(sae: SAE, config: StabilityConfig) -> Metrics | NotApplicable:
    """Cosines of decoder rows with those of the other SAE.

    - nearest_cosine `[d_sae]`: the highest cosine of each latent with any of the other SAE's;
    - mean_max_cosine: its mean (Sharkey et al. 2022); other_mean_max_cosine: the mean of the other
      SAE's highest cosines with this one's;
    - shared_fraction: share of latents whose nearest_cosine is above `shared`;
    - mcc: mean |cosine| of pairs matched one to one (`saecore.evaluation.geometry.match`);
      matched_fraction: share of pairs above `shared`. Both are left out if either SAE has more
      than `max_latents` latents.
    """
    from saecore.core.evaluator import LatentMetric, Metric, NotApplicable
    from saecore.evaluation.geometry import match, max_cosines
    from saecore.evaluation.target import resolve_target

    other = resolve_target(config.other).sae
    a, b = sae.W_dec.detach().float(), other.W_dec.detach().float().to(sae.W_dec.device)
    if a.shape[1] != b.shape[1]:
        return NotApplicable(
            f"{config.other} writes activations of size {b.shape[1]}, this SAE of {a.shape[1]}"
        )
    nearest, nearest_of_other = max_cosines(a, b), max_cosines(b, a)
    values = {
        "mean_max_cosine": nearest.mean(),
        "other_mean_max_cosine": nearest_of_other.mean(),
        "shared_fraction": (nearest > config.shared).double().mean(),
    }
    if max(len(a), len(b)) <= config.max_latents:
        cosines = match(a, b)[1]
        values["mcc"] = cosines.mean()
        values["matched_fraction"] = (cosines > config.shared).double().mean()
    metrics: dict[str, Metric | LatentMetric] = {
        name: Metric(float(value), 0, group="stability") for name, value in values.items()
    }
    return {**metrics, "nearest_cosine": LatentMetric(nearest, 0)}


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="stability",
        config=StabilityConfig,
        build=build,
        summary="agreement with the latents of another SAE: MCC, nearest cosines",
        requires="weights",
    )
