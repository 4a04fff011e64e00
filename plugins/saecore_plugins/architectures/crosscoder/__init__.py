"""Crosscoder: one dictionary for several hooks (Lindsey et al., Anthropic, October 2024)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import OpenConfig
from saecore.hookspecs import hookimpl


@attrs.frozen
class CrosscoderConfig(OpenConfig):
    """Settings of a crosscoder."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="crosscoder",
        config=CrosscoderConfig,
        build="saecore_plugins.architectures.crosscoder.sae:Crosscoder",
        summary="one dictionary that reads and reconstructs several hooks",
    )
