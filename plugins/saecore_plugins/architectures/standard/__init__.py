"""Standard: ReLU features under an L1 or Lp penalty (Bricken et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import ArchitectureConfig, PenalizedConfig
from saecore.plugins import Choice, Component, at_least, choice, hookimpl


@attrs.frozen(kw_only=True)
class StandardConfig(PenalizedConfig, ArchitectureConfig):
    """Settings of a standard SAE."""

    activation: Choice = choice("activation", "relu", unlike="architecture")
    """Function from pre-activations to features."""
    l1_coefficient: float = attrs.field(default=1.0, validator=at_least(0))
    """Weight of the sparsity penalty."""
    lp_schedule: Choice = choice("schedule", "constant")
    """How p changes over the run: lp_norm times the schedule's value (p-annealing)."""
    lp_rescale: bool = False
    """Adjust the weight when p changes, so that the penalty is continuous."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="standard",
        config=StandardConfig,
        build="saecore_plugins.architectures.standard.sae:Standard",
        summary="ReLU features under an L1 or Lp penalty",
    )
