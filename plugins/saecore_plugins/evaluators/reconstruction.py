"""How well, and how sparsely, activations are reconstructed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.evaluation import Evaluator, Figure, Origin
    from saecore.sae import SAE


@attrs.frozen
class ReconstructionConfig:
    """Settings of the measurement."""

    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Contexts per forward."""


def build(config: ReconstructionConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, origin, held_out: measure(sae, origin, held_out, config.batch_size)


def measure(sae: SAE, origin: Origin, held_out: Tensor | int, batch_size: int) -> dict[str, Figure]:
    """Explained variance, MSE, cosine, norms, L0, L1 and the share of dead and dense latents.

    Definitions as in SAELens' evals: explained_variance = 1 − E‖x−x̂‖² / (E‖x‖² − ‖E x‖²);
    mse = E‖x−x̂‖²; l2_ratio = E(‖x̂‖/‖x‖) over x ≠ 0; relative_reconstruction_bias = E‖x̂‖² / E(x·x̂);
    dead_fraction: latents that never fire; dense_fraction: latents that fire on over 10 %.
    """
    import torch

    from saecore.evaluation import Figure, activations
    from saecore.metrics import explained_variance

    device = sae.W_dec.device
    names = ("mse", "squares", "squares_out", "dot", "cossim", "l2_norm_in", "l2_norm_out",
             "l2_ratio", "l0", "l1")  # fmt: skip
    sums = torch.zeros(len(names), dtype=torch.float64, device=device)
    mean = torch.zeros(sae.cfg.d_out, dtype=torch.float64, device=device)
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=device)
    count = not_zero = 0
    for read, wanted in activations(sae, origin, held_out, batch_size):
        rows = read.to(device).float()  # [N, d_in]
        x = wanted.to(device).float().flatten(1)  # [N, d_out]
        codes = sae.encode_sparse(rows)
        x_hat = sae(rows).float().flatten(1)
        squares, out, dot = x.square().sum(1), x_hat.square().sum(1), (x * x_hat).sum(1)
        norm, norm_out = squares.sqrt(), out.sqrt()
        cosine = dot / (norm * norm_out).clamp(min=1e-8)
        parts = ((x - x_hat).square().sum(1), squares, out, dot, cosine, norm, norm_out,
                 torch.where(norm > 0, norm_out / norm, 0.0))  # fmt: skip
        counts = codes.firing_counts()
        sums[:8] += torch.stack([one.double().sum() for one in parts])
        sums[8] += counts.sum()
        sums[9] += codes.values.abs().double().sum()
        mean += x.double().sum(0)
        fired += counts
        count += len(x)
        not_zero += int((norm > 0).sum())
    if not count:
        return {}
    means = dict(zip(names, (sums / count).tolist(), strict=True))
    mean_square = float((mean / count).square().sum())
    figures = {
        "explained_variance": explained_variance(means["mse"], means["squares"], mean_square),
        "mse": means["mse"],
        "cossim": means["cossim"],
        "l2_norm_in": means["l2_norm_in"],
        "l2_norm_out": means["l2_norm_out"],
        "l2_ratio": means["l2_ratio"] * count / max(1, not_zero),
        "relative_reconstruction_bias": means["squares_out"] / (means["dot"] or 1e-8),
        "l0": means["l0"],
        "l1": means["l1"],
        "dead_fraction": float((fired == 0).double().mean()),
        "dense_fraction": float((fired > 0.1 * count).double().mean()),
    }
    return {name: Figure(value, count) for name, value in figures.items()}


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="reconstruction",
        config=ReconstructionConfig,
        build=build,
        summary="explained variance, MSE, cosine, norms, L0, L1, dead and dense latents",
        needs="activations",
    )
