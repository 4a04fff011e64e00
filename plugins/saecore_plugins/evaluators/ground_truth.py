"""Agreement of latents with the true features of a synthetic dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.plugins import Component, at_least, hookimpl

if TYPE_CHECKING:
    from saecore.core.evaluator import Evaluator, Metric
    from saecore.core.sae import SAE
    from saecore.evaluation.batches import HeldOut


@attrs.frozen
class GroundTruthConfig:
    """Settings of the evaluator."""

    batch_size: int = attrs.field(default=4096, validator=at_least(1))
    """Rows per batch."""


def build(config: GroundTruthConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, held_out, config.batch_size)


def measure(sae: SAE, held_out: HeldOut, batch_size: int) -> dict[str, Metric]:
    """Compare latents with the true features, and reconstructions with the activations.

    Latents are matched one to one with true directions (`saecore.evaluation.geometry.match`).

    - mcc: mean |cos| of the pairs;
    - precision, recall, f1: of "the latent fires" as a prediction of "its feature is active",
      averaged over pairs (0 for a pair that never fires);
    - uniqueness: number of distinct features that are the nearest of some latent, per latent;
    - shrinkage: mean ‖x̂‖ / ‖x‖ over nonzero rows;
    - true_l0, l0: active features and latents per row; dead_latents: latents that never fire;
    - explained_variance: 1 − E‖x−x̂‖² / (E‖x‖² − ‖E x‖²).
    """
    import torch

    from saecore.core.evaluator import Metric
    from saecore.evaluation.geometry import absolute_cosines, match
    from saecore.training.metrics import Moments

    stream, rows, device = held_out.truth, held_out.rows, sae.W_dec.device
    directions = stream.directions.to(device)
    pairs, cosines = match(directions, sae.W_dec)
    feature, latent = pairs.to(device).unbind(1)
    moments = Moments(sae.cfg.d_out, device)
    hits = torch.zeros(len(pairs), dtype=torch.int64, device=device)
    active = torch.zeros(len(directions), dtype=torch.int64, device=device)
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=device)
    ratios = not_zero = 0.0
    stream.seek(0)
    for start in range(0, rows, batch_size):
        features = stream.next_features(min(batch_size, rows - start)).to(device)
        x = features @ directions  # [N, d_in]
        codes = sae.encode_sparse(x)
        x_hat = sae.decode(codes).float()
        fires = codes.dense(latent) != 0  # [N, pairs]
        hits += (fires & (features[:, feature] > 0)).sum(0)
        active += (features > 0).sum(0)
        fired += codes.firing_counts()
        moments.add(x, x_hat)
        norms = x.norm(dim=1)
        ratio = (x_hat.norm(dim=1) / norms)[norms > 0]
        ratios += float(ratio.sum())
        not_zero += len(ratio)
    if not rows:
        return {}
    predicted, true = fired[latent], active[feature]
    figures: dict[str, Any] = {
        "mcc": cosines.mean(),
        "precision": (hits / predicted.clamp(min=1)).mean(),
        "recall": (hits / true.clamp(min=1)).mean(),
        "f1": (2 * hits / (predicted + true).clamp(min=1)).mean(),
        "uniqueness": len(absolute_cosines(directions, sae.W_dec).argmax(0).unique())
        / sae.cfg.d_sae,
        "shrinkage": ratios / max(1.0, not_zero),
        "true_l0": active.sum() / rows,
        "l0": fired.sum() / rows,
        "dead_latents": (fired == 0).sum(),
        "explained_variance": moments.read(),
    }
    return {name: Metric(float(value), rows) for name, value in figures.items()}


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="ground_truth",
        config=GroundTruthConfig,
        build=build,
        summary="MCC, F1 and more against the true features of a synthetic dataset",
        requires="truth",
    )
