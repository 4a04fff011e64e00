"""Geometry of encoder and decoder; needs the weights alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.config.validators import between
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.evaluation import Evaluator
    from saecore.figures import Figures
    from saecore.sae import SAE


@attrs.frozen
class GeometryConfig:
    """Settings of the measurement."""

    duplicate: float = attrs.field(default=0.9, validator=between(0, 1))
    """Cosine of two decoder rows from which they count as one direction."""


def build(config: GeometryConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, origin, held_out: measure(sae, config.duplicate)


def measure(sae: SAE, duplicate: float) -> Figures:
    """Norms of the rows, their cosines with each other and between encoder and decoder.

    max_decoder_cosine_sim and max_encoder_cosine_sim `[d_sae]`: the largest cosine with any other
    latent's row, averaged in average_max_decoder_cosine_sim and average_max_encoder_cosine_sim
    (SAEBench's core evaluation); duplicate_fraction: latents whose nearest decoder row is closer
    than `duplicate`; encoder_decoder_cosine: mean cosine of each latent's two directions, left out
    where encoder and decoder are at different hooks; decoder_norm and encoder_norm: means, with
    the spread (standard deviation) of the former. Time is quadratic in d_sae, memory is not.
    """
    import torch

    from saecore.directions import nearest
    from saecore.figures import Figure, Vector

    encoder, decoder = sae.W_enc.detach().t().float(), sae.W_dec.detach().float()
    close = nearest(decoder)[0]
    values: dict[str, Any] = {
        "average_max_decoder_cosine_sim": close.mean(),
        "duplicate_fraction": (close > duplicate).double().mean(),
        "decoder_norm": decoder.norm(dim=1).mean(),
        "decoder_norm_std": decoder.norm(dim=1).std(correction=0),
    }
    vectors = {"max_decoder_cosine_sim": close}
    if len(encoder) == sae.cfg.d_sae:
        vectors["max_encoder_cosine_sim"] = nearest(encoder)[0]
        values["average_max_encoder_cosine_sim"] = vectors["max_encoder_cosine_sim"].mean()
        values["encoder_norm"] = encoder.norm(dim=1).mean()
    if encoder.shape == decoder.shape and not sae.separate_target:
        cosine = torch.nn.functional.cosine_similarity(encoder, decoder, dim=1)
        values["encoder_decoder_cosine"] = cosine.mean()
    return {
        **{name: Figure(float(one), 0, "misc_metrics") for name, one in values.items()},
        **{name: Vector(one, 0) for name, one in vectors.items()},
    }


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="geometry",
        config=GeometryConfig,
        build=build,
        summary="norms, nearest decoder and encoder rows, encoder-decoder cosine",
        needs="weights",
    )
