"""How often latents fire: dead ones, dense ones, and the histogram between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.evaluation import Evaluator, Origin
    from saecore.figures import Figures
    from saecore.sae import SAE

LOWEST = -8
"""log10 of the density at which the histogram begins."""


@attrs.frozen
class DensityConfig:
    """Settings of the measurement."""

    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Contexts per forward."""
    bins_per_decade: int = attrs.field(default=4, validator=at_least(1))
    """Bins of the histogram for each factor of ten in density."""


def build(config: DensityConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, origin, held_out: measure(sae, origin, held_out, config)


def measure(sae: SAE, origin: Origin, held_out: Tensor | int, config: DensityConfig) -> Figures:
    """Shares of dead and dense latents, and the histogram of log10 density.

    With p_i the share of tokens on which latent i fires: frac_alive: p_i > 0; freq_over_1_percent
    and freq_over_10_percent: p_i above that; normalized_freq_over_*: Σ p_i of those / Σ p_i, the
    share of all firing that is theirs (names and definitions of SAEBench's core evaluation);
    mean_log10_density: of those alive. density_histogram: numbers of latents by log10 p_i, in
    bins from 1e-8 to 1, labelled by their lower edges; the first bin, "dead", has those that never
    fire. Memory is one count per latent.
    """
    import torch

    from saecore.evaluation import held_out_parts
    from saecore.figures import Figure, Vector

    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=sae.W_dec.device)
    count = 0
    for part in held_out_parts(sae, origin, held_out, config.batch_size):
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
    place = ((alive - LOWEST) * config.bins_per_decade).floor().clamp(0, bins - 1).long()
    dead = fired.new_tensor([len(fired) - len(alive)])
    histogram = torch.cat([dead, torch.bincount(place, minlength=bins)])
    edges = tuple(f"{LOWEST + i / config.bins_per_decade:g}" for i in range(bins))
    return {
        **{name: Figure(float(one), count, "misc_metrics") for name, one in values.items()},
        "density_histogram": Vector(histogram, count, "histogram", ("dead", *edges)),
    }


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="density",
        config=DensityConfig,
        build=build,
        summary="dead and dense latents, and the histogram of how often latents fire",
        needs="activations",
    )
