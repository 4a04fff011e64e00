"""Matching pursuit: latents are chosen one by one on the residual (arXiv 2506.03093)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import ArchitectureConfig
from saecore.plugins import Component, at_least, hookimpl


@attrs.frozen(kw_only=True)
class MatchingPursuitConfig(ArchitectureConfig):
    """Settings of a matching-pursuit SAE."""

    residual_threshold: float = attrs.field(default=1e-2, validator=at_least(0))
    """Stop on a token when the norm of its residual falls below this."""
    max_iterations: int | None = attrs.field(default=None, validator=at_least(1))
    """Maximum number of latents chosen per token; default: d_in."""
    stop_on_duplicate_support: bool = True
    """Also stop on a token when an already active latent is chosen."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="matching_pursuit",
        config=MatchingPursuitConfig,
        build="saecore_plugins.architectures.matching_pursuit.sae:MatchingPursuit",
        summary="latents chosen one after another on the residual; encoder and decoder are one",
    )
