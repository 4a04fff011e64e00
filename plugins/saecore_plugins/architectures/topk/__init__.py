"""TopK: the k largest pre-activations of each token stay (Gao et al. 2024, arXiv 2406.04093)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import ArchitectureConfig
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class TopKConfig(ArchitectureConfig):
    """Settings of a TopK SAE."""

    k: int = attrs.field(validator=at_least(1))
    """Active latents per token."""
    rescale_acts_by_decoder_norm: bool = True
    """Rank and report features times the norm of their decoder row."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="topk",
        config=TopKConfig,
        build="saecore_plugins.architectures.topk.sae:TopK",
        summary="the k largest pre-activations of each token",
    )
