"""Temporal SAE: the context predicts part of each activation, latents explain the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from saecore.core.architecture_config import ArchitectureConfig
from saecore.plugins import Component, above, at_least, between, hookimpl


@attrs.frozen(kw_only=True)
class TemporalConfig(ArchitectureConfig):
    """Settings of a temporal SAE, as in SAELens files; it cannot be trained here."""

    n_heads: int = attrs.field(default=8, validator=at_least(1))
    """Heads of each attention layer."""
    n_attn_layers: int = attrs.field(default=1, validator=between(1, 1000))
    """Attention layers, each of which predicts from the residual of the one before."""
    bottleneck_factor: int = attrs.field(default=64, validator=at_least(1))
    """Keys and queries have size d_sae / bottleneck_factor."""
    sae_diff_type: Literal["relu", "topk"] = "topk"
    """Which latents explain the residual: all positive ones, or the best of them."""
    kval_topk: int | None = attrs.field(default=None, validator=at_least(1))
    """Active latents per token with "topk"; default: all positive ones."""
    tied_weights: bool = True
    """The encoder is the decoder's transpose."""
    activation_normalization_factor: float = attrs.field(default=1.0, validator=above(0))
    """Factor of the activations with normalize_activations = "constant_scalar_rescale"."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="temporal",
        config=TemporalConfig,
        build="saecore_plugins.architectures.temporal.sae:Temporal",
        summary="context predicts a part, latents explain the rest; loading and inference only",
    )
