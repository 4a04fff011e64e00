"""Metrics of single latents, as in SAELens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, at_least, hookimpl

if TYPE_CHECKING:
    from saecore.core.evaluator import Evaluator, LatentMetric
    from saecore.core.sae import SAE
    from saecore.evaluation.batches import HeldOut


@attrs.frozen
class FeaturewiseConfig:
    """Settings of the evaluator."""

    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Contexts per forward pass."""
    density: bool = True
    """Report feature_density and consistent_activation_heuristic, which need text."""
    weights: bool = True
    """Report encoder_norm, encoder_bias and encoder_decoder_cosine_sim."""


def build(config: FeaturewiseConfig) -> Evaluator:
    """Build the evaluator."""

    def measure(sae: SAE, held_out: HeldOut) -> dict[str, LatentMetric]:
        metrics = weight_metrics(sae) if config.weights else {}
        if config.density:
            metrics |= firing_metrics(sae, held_out, config.batch_size)
        return metrics

    return measure


def firing_metrics(sae: SAE, held_out: HeldOut, batch_size: int) -> dict[str, LatentMetric]:
    """How often each latent fires, `[d_sae]` each.

    feature_density: share of tokens on which the latent fires; consistent_activation_heuristic:
    tokens on which it fires per context in which it fires at all, NaN for a dead latent. As in
    SAELens' evals.
    """
    import torch

    from saecore.core.evaluator import LatentMetric

    d_sae, device = sae.cfg.d_sae, sae.W_dec.device
    fired = torch.zeros(d_sae, dtype=torch.int64, device=device)
    contexts = torch.zeros_like(fired)
    count = 0
    for part in held_out.parts(sae, batch_size):
        codes = part.codes(sae)
        on = codes.firing()
        context = part.context.to(device)[codes.rows[on]]
        pairs = torch.unique(context * d_sae + codes.indices[on])  # batches hold whole contexts
        fired += codes.firing_counts()
        contexts += torch.bincount(pairs % d_sae, minlength=d_sae)
        count += codes.n_rows
    if not count:
        return {}
    return {
        "feature_density": LatentMetric(fired / count, count),
        "consistent_activation_heuristic": LatentMetric(fired / contexts, count),
    }


def weight_metrics(sae: SAE) -> dict[str, LatentMetric]:
    """Encoder norm, encoder bias and encoder-decoder cosine of each latent `[d_sae]`.

    Parameters that the architecture does not have are left out, and so is
    encoder_decoder_cosine_sim if encoder and decoder are at different hooks.
    """
    import torch

    from saecore.core.evaluator import LatentMetric

    vectors = {}
    encoder = sae.W_enc.detach().t().float()  # [d_sae, d_in]
    decoder = sae.W_dec.detach().float()
    if encoder.dim() == 2 and len(encoder) == sae.cfg.d_sae:
        vectors["encoder_norm"] = encoder.norm(dim=1)
        if encoder.shape == decoder.shape and not sae.separate_target and not sae.several_targets:
            cosine = torch.nn.functional.cosine_similarity(encoder, decoder, dim=1)
            vectors["encoder_decoder_cosine_sim"] = cosine
    if "b_enc" in dict(sae.named_parameters()):
        vectors["encoder_bias"] = sae.b_enc.detach().float()
    return {name: LatentMetric(values, 0) for name, values in vectors.items()}


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="featurewise",
        config=FeaturewiseConfig,
        build=build,
        summary="per latent: density, consistency, encoder norm and bias, encoder-decoder cosine",
        requires="activations",
    )
