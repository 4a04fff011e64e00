"""TopK: the k largest pre-activations of each token, those that are positive."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Choice, Component, choice
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class TopKConfig:
    """Settings of TopK."""

    k: int = attrs.field(validator=at_least(1), kw_only=True)
    """Active latents per token."""
    k_schedule: Choice = choice("schedule", "constant")
    """How k changes over the run: k times the schedule's value, rounded."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the activation."""
    yield Component(
        kind="activation",
        name="topk",
        config=TopKConfig,
        build="saecore_plugins.activations.topk.activation:TopK",
        summary="the k largest pre-activations of each token",
    )
