"""The reference's figures of single latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.evaluation import Evaluator, Origin
    from saecore.figures import Vector
    from saecore.sae import SAE


@attrs.frozen
class FeaturewiseConfig:
    """Settings of the measurement."""

    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Contexts per forward."""
    density: bool = True
    """Give feature_density and consistent_activation_heuristic, which need text."""
    weights: bool = True
    """Give encoder_norm, encoder_bias and encoder_decoder_cosine_sim."""


def build(config: FeaturewiseConfig) -> Evaluator:
    """Make the evaluator."""

    def run(sae: SAE, origin: Origin, held_out: Tensor | int) -> dict[str, Vector]:
        found = of_weights(sae) if config.weights else {}
        if config.density:
            found |= of_firing(sae, origin, held_out, config.batch_size)
        return found

    return run


def of_firing(
    sae: SAE, origin: Origin, held_out: Tensor | int, batch_size: int
) -> dict[str, Vector]:
    """How often latents fire, `[d_sae]` each.

    feature_density: share of tokens; consistent_activation_heuristic: tokens on which the latent
    fires per context in which it fires at all, NaN for one that never does. As in SAELens' evals.
    """
    import torch

    from saecore.evaluation import held_out_parts
    from saecore.figures import Vector

    d_sae, device = sae.cfg.d_sae, sae.W_dec.device
    fired = torch.zeros(d_sae, dtype=torch.int64, device=device)
    contexts = torch.zeros_like(fired)
    count = 0
    for part in held_out_parts(sae, origin, held_out, batch_size):
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
        "feature_density": Vector(fired / count, count),
        "consistent_activation_heuristic": Vector(fired / contexts, count),
    }


def of_weights(sae: SAE) -> dict[str, Vector]:
    """What the weights say of each latent `[d_sae]`, as far as the architecture has it.

    encoder_decoder_cosine_sim is left out where encoder and decoder are at different hooks.
    """
    import torch

    from saecore.figures import Vector

    found = {}
    encoder = sae.W_enc.detach().t().float()  # [d_sae, d_in]
    decoder = sae.W_dec.detach().float()
    if encoder.dim() == 2 and len(encoder) == sae.cfg.d_sae:
        found["encoder_norm"] = encoder.norm(dim=1)
        if encoder.shape == decoder.shape and not sae.separate_target and not sae.several_targets:
            cosine = torch.nn.functional.cosine_similarity(encoder, decoder, dim=1)
            found["encoder_decoder_cosine_sim"] = cosine
    if "b_enc" in dict(sae.named_parameters()):
        found["encoder_bias"] = sae.b_enc.detach().float()
    return {name: Vector(values, 0) for name, values in found.items()}


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="featurewise",
        config=FeaturewiseConfig,
        build=build,
        summary="of each latent: density, consistency, encoder norm, bias, encoder-decoder cosine",
        needs="activations",
    )
