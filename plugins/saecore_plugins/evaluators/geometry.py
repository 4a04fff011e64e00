"""Geometry of encoder and decoder rows; needs only the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.plugins import Component, between, hookimpl

if TYPE_CHECKING:
    from saecore.core.evaluator import Evaluator, Metrics
    from saecore.core.sae import SAE


@attrs.frozen
class GeometryConfig:
    """Settings of the evaluator."""

    duplicate: float = attrs.field(default=0.9, validator=between(0, 1))
    """Cosine above which two decoder rows count as duplicates."""


def build(config: GeometryConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, config.duplicate)


def measure(sae: SAE, duplicate: float) -> Metrics:
    """Norms of rows, cosines among rows, and cosines between encoder and decoder.

    - max_decoder_cosine_sim, max_encoder_cosine_sim `[d_sae]`: the highest cosine with any other
      latent's row; average_max_* are their means (SAEBench's core evaluation);
    - duplicate_fraction: share of latents whose nearest decoder row has a cosine over `duplicate`;
    - encoder_decoder_cosine: mean cosine of each latent's encoder and decoder row, left out if
      encoder and decoder are at different hooks;
    - decoder_norm, encoder_norm: means; decoder_norm_std: standard deviation.

    Time is quadratic in d_sae, memory is linear.
    """
    import torch

    from saecore.core.evaluator import LatentMetric, Metric
    from saecore.evaluation.geometry import max_cosines

    encoder, decoder = sae.W_enc.detach().t().float(), sae.W_dec.detach().float()
    nearest = max_cosines(decoder)
    values: dict[str, Any] = {
        "average_max_decoder_cosine_sim": nearest.mean(),
        "duplicate_fraction": (nearest > duplicate).double().mean(),
        "decoder_norm": decoder.norm(dim=1).mean(),
        "decoder_norm_std": decoder.norm(dim=1).std(correction=0),
    }
    vectors = {"max_decoder_cosine_sim": nearest}
    if len(encoder) == sae.cfg.d_sae:
        vectors["max_encoder_cosine_sim"] = max_cosines(encoder)
        values["average_max_encoder_cosine_sim"] = vectors["max_encoder_cosine_sim"].mean()
        values["encoder_norm"] = encoder.norm(dim=1).mean()
    if encoder.shape == decoder.shape and not sae.separate_target:
        cosine = torch.nn.functional.cosine_similarity(encoder, decoder, dim=1)
        values["encoder_decoder_cosine"] = cosine.mean()
    return {
        **{name: Metric(float(value), 0, group="misc_metrics") for name, value in values.items()},
        **{name: LatentMetric(vector, 0) for name, vector in vectors.items()},
    }


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="geometry",
        config=GeometryConfig,
        build=build,
        summary="norms, nearest decoder and encoder rows, encoder-decoder cosine",
        requires="weights",
    )
