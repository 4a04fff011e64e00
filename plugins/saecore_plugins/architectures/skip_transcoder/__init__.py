"""Skip transcoder: a transcoder beside a linear map (Paulo et al. 2025, arXiv 2501.18823)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import PenalizedConfig
from saecore.plugins import Component, hookimpl


@attrs.frozen(kw_only=True)
class SkipTranscoderConfig(PenalizedConfig):
    """Settings of a skip transcoder."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="skip_transcoder",
        config=SkipTranscoderConfig,
        build="saecore_plugins.architectures.skip_transcoder.sae:SkipTranscoder",
        summary="a transcoder beside a linear map of the input",
    )
