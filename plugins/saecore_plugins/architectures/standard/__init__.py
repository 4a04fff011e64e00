"""Standard: ReLU features under an L1 or Lp penalty (Bricken et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Choice, Component, choice
from saecore.config.architecture import ArchitectureConfig
from saecore.config.validators import above, at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class StandardConfig(ArchitectureConfig):
    """Settings of a standard SAE."""

    activation: Choice = choice("activation", "relu", unlike="architecture")
    """Function from pre-activations to features."""
    l1_coefficient: float = attrs.field(default=1.0, validator=at_least(0))
    """Weight of the sparsity penalty."""
    l1_schedule: Choice = choice("schedule", "constant")
    """How the weight changes over the run, for example a warm-up."""
    lp_norm: float = attrs.field(default=1.0, validator=above(0))
    """p of the penalty ‖f · n‖_p of each token, with n the norms of the decoder rows."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="standard",
        config=StandardConfig,
        build="saecore_plugins.architectures.standard.sae:Standard",
        summary="ReLU features under an L1 or Lp penalty",
    )
