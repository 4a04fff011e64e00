"""TopK: the positive ones among the k largest pre-activations of each token."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Choice, Component, at_least, choice, hookimpl


@attrs.frozen
class TopKConfig:
    """Settings of TopK."""

    k: int = attrs.field(validator=at_least(1), kw_only=True)
    """Active latents per token."""
    k_schedule: Choice = choice("schedule", "constant")
    """How k changes over the run: k times the schedule's value, rounded."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="activation",
        name="topk",
        config=TopKConfig,
        build="saecore_plugins.activations.topk.activation:TopK",
        summary="the k largest pre-activations of each token",
    )
