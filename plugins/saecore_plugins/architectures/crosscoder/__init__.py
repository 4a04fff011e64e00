"""Crosscoder: one dictionary for several hooks (Lindsey et al., Anthropic, October 2024)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import PenalizedConfig
from saecore.plugins import Component, hookimpl


@attrs.frozen(kw_only=True)
class CrosscoderConfig(PenalizedConfig):
    """Settings of a crosscoder."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="crosscoder",
        config=CrosscoderConfig,
        build="saecore_plugins.architectures.crosscoder.sae:Crosscoder",
        summary="one dictionary that reads and reconstructs several hooks",
    )
