"""GroupMax: latents in k groups, the largest of each is active (EleutherAI's sparsify)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Component, at_least, hookimpl


@attrs.frozen
class GroupMaxConfig:
    """Settings of GroupMax."""

    k: int = attrs.field(validator=at_least(1), kw_only=True)
    """Number of groups and of active latents per token; divides d_sae."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="activation",
        name="groupmax",
        config=GroupMaxConfig,
        build="saecore_plugins.activations.groupmax.activation:GroupMax",
        summary="the largest pre-activation of each of k groups of latents",
    )
