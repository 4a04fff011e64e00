"""Matching pursuit: latents are chosen one after another on what is left (arXiv 2506.03093)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import ArchitectureConfig
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class MatchingPursuitConfig(ArchitectureConfig):
    """Settings of a matching-pursuit SAE."""

    residual_threshold: float = attrs.field(default=1e-2, validator=at_least(0))
    """A token is finished when the norm of its residual falls below this."""
    max_iterations: int | None = attrs.field(default=None, validator=at_least(1))
    """Most latents chosen per token; default: d_in."""
    stop_on_duplicate_support: bool = True
    """A token is finished too when a latent is chosen that is active already."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="matching_pursuit",
        config=MatchingPursuitConfig,
        build="saecore_plugins.architectures.matching_pursuit.sae:MatchingPursuit",
        summary="latents chosen one after another on the residual; encoder and decoder are one",
    )
