"""Firing density of latents: dead latents, dense latents and a histogram."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.plugins import Component, at_least, hookimpl

if TYPE_CHECKING:
    from saecore.core.evaluator import Evaluator, Metrics
    from saecore.core.sae import SAE
    from saecore.evaluation.batches import HeldOut

LOWEST = -8
"""log10 of the lowest density in the histogram."""


@attrs.frozen
class DensityConfig:
    """Settings of the evaluator."""

    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Contexts per forward pass."""
    bins_per_decade: int = attrs.field(default=4, validator=at_least(1))
    """Bins of the histogram for each factor of ten in density."""


def build(config: DensityConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, held_out, config)


def measure(sae: SAE, held_out: HeldOut, config: DensityConfig) -> Metrics:
    """Shares of dead and dense latents, and a histogram of log10 density.

    With p_i the share of tokens on which latent i fires:

    - frac_alive: share of latents with p_i > 0;
    - freq_over_1_percent, freq_over_10_percent: share of latents with p_i above 1 % or 10 %;
    - normalized_freq_over_*: Σ p_i of those latents / Σ p_i of all (all of these as in SAEBench's
      core evaluation);
    - mean_log10_density: mean of log10 p_i over latents that fire;
    - density_histogram: number of latents by log10 p_i, in bins from 1e-8 to 1, labeled by their
      lower edges. The first bin, "dead", holds latents that never fire.

    Memory: one counter per latent.
    """
    import torch

    from saecore.core.evaluator import LatentMetric, Metric

    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=sae.W_dec.device)
    count = 0
    for part in held_out.parts(sae, config.batch_size):
        codes = part.codes(sae)
        fired += codes.firing_counts()
        count += codes.n_rows
    if not count:
        return {}
    density = fired.double() / count
    alive = density[density > 0].log10()
    values: dict[str, Any] = {"frac_alive": (fired > 0).double().mean()}
    for percent in (1, 10):
        often = density > percent / 100
        share = density[often].sum() / density.sum().clamp(min=1e-300)
        values[f"freq_over_{percent}_percent"] = often.double().mean()
        values[f"normalized_freq_over_{percent}_percent"] = share
    if len(alive):
        values["mean_log10_density"] = alive.mean()
    bins = -LOWEST * config.bins_per_decade
    bin_index = ((alive - LOWEST) * config.bins_per_decade).floor().clamp(0, bins - 1).long()
    dead = fired.new_tensor([len(fired) - len(alive)])
    histogram = torch.cat([dead, torch.bincount(bin_index, minlength=bins)])
    edges = tuple(f"{LOWEST + i / config.bins_per_decade:g}" for i in range(bins))
    return {
        **{
            name: Metric(float(value), count, group="misc_metrics")
            for name, value in values.items()
        },
        "density_histogram": LatentMetric(
            histogram, count, group="histogram", labels=("dead", *edges)
        ),
    }


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="density",
        config=DensityConfig,
        build=build,
        summary="dead and dense latents, and a histogram of firing density",
        requires="activations",
    )
