"""Whether another SAE has found the same features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import at_least, between
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.evaluation import Evaluator
    from saecore.figures import Figure, Figures
    from saecore.sae import SAE


@attrs.frozen
class StabilityConfig:
    """The other SAE."""

    other: str
    """The SAE to compare with, of the same hook, such as one trained with another seed: a run's
    directory, or what `saecore convert` reads."""
    shared: float = attrs.field(default=0.7, validator=between(0, 1))
    """Cosine from which two latents count as the same feature."""
    max_latents: int = attrs.field(default=8192, validator=at_least(1))
    """Most latents that are matched one to one; the time is cubic in them."""


def build(config: StabilityConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, origin, held_out: measure(sae, config)


def measure(sae: SAE, config: StabilityConfig) -> Figures:
    """Cosines of decoder rows with those of the other SAE.

    mean_max_cosine: mean over this SAE's latents of the largest cosine with any of the other's
    (Sharkey et al. 2022), other_mean_max_cosine the other way round; shared_fraction: latents for
    which it is above `shared`; mcc: mean |cosine| of pairs matched one to one (the Hungarian
    method, `saecore.metrics.match`), and matched_fraction the share of pairs above `shared`; these
    two only where neither SAE has more than `max_latents` latents. nearest_cosine `[d_sae]`: the
    largest cosine of each latent.
    """
    from saecore.directions import nearest
    from saecore.figures import Figure, NotApplicable, Vector
    from saecore.metrics import match
    from saecore.plugins import current_host
    from saecore.subject import subject_of

    other = subject_of(config.other, current_host()).sae
    a, b = sae.W_dec.detach().float(), other.W_dec.detach().float().to(sae.W_dec.device)
    if a.shape[1] != b.shape[1]:
        raise NotApplicable(
            f"{config.other} writes activations of size {b.shape[1]}, this SAE of {a.shape[1]}"
        )
    there, back = nearest(a, b)[0], nearest(b, a)[0]
    values = {
        "mean_max_cosine": there.mean(),
        "other_mean_max_cosine": back.mean(),
        "shared_fraction": (there > config.shared).double().mean(),
    }
    if max(len(a), len(b)) <= config.max_latents:
        cosines = match(a, b)[1]
        values["mcc"] = cosines.mean()
        values["matched_fraction"] = (cosines > config.shared).double().mean()
    figures: dict[str, Figure | Vector] = {
        name: Figure(float(one), 0, "stability") for name, one in values.items()
    }
    return {**figures, "nearest_cosine": Vector(there, 0)}


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="stability",
        config=StabilityConfig,
        build=build,
        summary="whether another SAE has the same features: MCC, nearest cosines",
        needs="weights",
    )
