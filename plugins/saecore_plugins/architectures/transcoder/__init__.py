"""Transcoder: features of one hook reconstruct another (Dunefsky et al. 2024, 2406.11944)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import PenalizedConfig
from saecore.plugins import Component, hookimpl


@attrs.frozen(kw_only=True)
class TranscoderConfig(PenalizedConfig):
    """Settings of a transcoder."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="transcoder",
        config=TranscoderConfig,
        build="saecore_plugins.architectures.transcoder.sae:Transcoder",
        summary="the features of one hook reconstruct another, for example an MLP's output",
    )
