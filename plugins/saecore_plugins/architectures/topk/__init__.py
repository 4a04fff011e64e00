"""TopK: the k largest pre-activations of each token stay (Gao et al. 2024, arXiv 2406.04093)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import RescaledConfig
from saecore.plugins import Component, hookimpl
from saecore_plugins.activations.topk import TopKConfig as ActivationTopKConfig


@attrs.frozen
class TopKConfig(ActivationTopKConfig, RescaledConfig):
    """Settings of a TopK SAE."""

    rank_by_decoder_norm: bool = attrs.field(default=False, kw_only=True)
    """Rank as with rescale_acts_by_decoder_norm, but report the pre-activations themselves."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a conflict of two settings."""
        if self.rank_by_decoder_norm and self.rescale_acts_by_decoder_norm:
            yield (
                "rank_by_decoder_norm",
                "expected rescale_acts_by_decoder_norm = false beside it, which ranks so too and "
                "reports what it ranks",
            )


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="topk",
        config=TopKConfig,
        build="saecore_plugins.architectures.topk.sae:TopK",
        summary="the k largest pre-activations of each token",
    )
