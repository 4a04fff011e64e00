"""Gated: one encoder decides which latents are active, another how much (arXiv 2404.16014)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Choice, Component, choice
from saecore.config.architecture import ArchitectureConfig
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class GatedConfig(ArchitectureConfig):
    """Settings of a gated SAE."""

    l1_coefficient: float = attrs.field(default=1.0, validator=at_least(0))
    """Weight of the sparsity penalty on the gate."""
    l1_schedule: Choice = choice("schedule", "constant")
    """How the weight changes over the run, for example a warm-up."""
    detach_aux: bool = True
    """Keep the auxiliary loss and the penalty from training the decoder, as in the paper, where its
    rows have length 1; the reference does not, which lets the gate's pre-activations be
    reconstructed by the decoder itself."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="gated",
        config=GatedConfig,
        build="saecore_plugins.architectures.gated.sae:Gated",
        summary="a gate decides which latents are active, a magnitude how much",
    )
