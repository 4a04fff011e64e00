"""Gated: one encoder decides which latents are active, another how much (arXiv 2404.16014)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import ArchitectureConfig
from saecore.plugins import Choice, Component, at_least, choice, hookimpl


@attrs.frozen(kw_only=True)
class GatedConfig(ArchitectureConfig):
    """Settings of a gated SAE."""

    l1_coefficient: float = attrs.field(default=1.0, validator=at_least(0))
    """Weight of the sparsity penalty on the gate."""
    l1_schedule: Choice = choice("schedule", "constant")
    """How the weight changes over the run, e.g. a warm-up."""
    detach_aux: bool = True
    """Keep the auxiliary loss and the penalty from training the decoder, as in the paper, where its
    rows have norm 1. SAELens does not, which lets the decoder itself adapt to the gate's
    pre-activations."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="gated",
        config=GatedConfig,
        build="saecore_plugins.architectures.gated.sae:Gated",
        summary="a gate decides which latents are active, a magnitude how much",
    )
