"""How well the latents of an SAE are the true features of a synthetic dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.data.source import TrueFeatures
    from saecore.evaluation import Evaluator, Figure
    from saecore.sae import SAE


@attrs.frozen
class GroundTruthConfig:
    """Settings of the measurement."""

    batch_size: int = attrs.field(default=4096, validator=at_least(1))
    """Rows at a time."""


def build(config: GroundTruthConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, origin, rows: measure(sae, origin, rows, config.batch_size)


def measure(sae: SAE, origin: TrueFeatures, rows: int, batch_size: int) -> dict[str, Figure]:
    """Compare latents with the true features, and reconstructions with the activations.

    Latents are matched one to one with true directions (`saecore.metrics.match`).
    mcc: mean |cos| of the pairs; precision, recall, f1: of "the latent fires" as a prediction of
    "its feature is active", for each pair, averaged over pairs (0 where a pair never fires);
    uniqueness: different features that are some latent's nearest, per latent; shrinkage: mean
    ‖x̂‖ / ‖x‖ over rows that are not zero; true_l0 and l0: active features and latents per row;
    dead_latents: latents that never fire; explained_variance: 1 − E‖x−x̂‖² / (E‖x‖² − ‖E x‖²).
    """
    import torch

    from saecore.evaluation import Figure
    from saecore.metrics import Moments, absolute_cosines, match

    device = sae.W_dec.device
    directions = origin.directions.to(device)
    pairs, cosines = match(directions, sae.W_dec)
    feature, latent = pairs.to(device).unbind(1)
    moments = Moments(sae.cfg.d_out, device)
    hits = torch.zeros(len(pairs), dtype=torch.int64, device=device)
    active = torch.zeros(len(directions), dtype=torch.int64, device=device)
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=device)
    ratios = not_zero = 0.0
    origin.seek(0)
    for start in range(0, rows, batch_size):
        features = origin.next_features(min(batch_size, rows - start)).to(device)
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
    return {name: Figure(float(value), rows) for name, value in figures.items()}


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="ground_truth",
        config=GroundTruthConfig,
        build=build,
        summary="MCC, F1 and more against the true features of a synthetic dataset",
        needs="truth",
    )
