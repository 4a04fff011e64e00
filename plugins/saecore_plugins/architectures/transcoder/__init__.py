"""Transcoder: features of one hook reconstruct another (Dunefsky et al. 2024, 2406.11944)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import OpenConfig
from saecore.hookspecs import hookimpl


@attrs.frozen
class TranscoderConfig(OpenConfig):
    """Settings of a transcoder."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="transcoder",
        config=TranscoderConfig,
        build="saecore_plugins.architectures.transcoder.sae:Transcoder",
        summary="the features of one hook reconstruct another, for example an MLP's output",
    )
