"""Skip transcoder: a transcoder beside a linear map (Paulo et al. 2025, arXiv 2501.18823)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import OpenConfig
from saecore.hookspecs import hookimpl


@attrs.frozen
class SkipTranscoderConfig(OpenConfig):
    """Settings of a skip transcoder."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="skip_transcoder",
        config=SkipTranscoderConfig,
        build="saecore_plugins.architectures.skip_transcoder.sae:SkipTranscoder",
        summary="a transcoder beside a linear map of the input",
    )
