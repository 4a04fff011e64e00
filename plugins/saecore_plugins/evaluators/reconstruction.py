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
    quality: bool = True
    """Give explained_variance, explained_variance_legacy, mse and cossim."""
    shrinkage: bool = True
    """Give l2_norm_in, l2_norm_out, l2_ratio and relative_reconstruction_bias."""
    sparsity: bool = True
    """Give l0, l1, dead_fraction and dense_fraction."""
    bias_per_batch: bool = False
    """Take relative_reconstruction_bias of each batch and average, as SAELens does, instead of all
    tokens together; it then depends on batch_size, and has no interval."""
    intervals: bool = True
    """Give 95 % confidence intervals, by a jackknife over contexts."""


GROUPS = {
    "reconstruction_quality": ("explained_variance", "explained_variance_legacy", "mse", "cossim"),
    "shrinkage": ("l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias"),
    "sparsity": ("l0", "l1"),
    "misc_metrics": ("dead_fraction", "dense_fraction"),
}
"""The reference's names, and SAEBench's for the last."""

SUMS = ("mse", "squares", "squares_out", "dot", "cossim", "l2_norm_in", "l2_norm_out", "l2_ratio",
        "l0", "l1")  # fmt: skip


def build(config: ReconstructionConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, origin, held_out: measure(sae, origin, held_out, config)


def measure(
    sae: SAE, origin: Origin, held_out: Tensor | int, config: ReconstructionConfig
) -> dict[str, Figure]:
    """Explained variance, MSE, cosine, norms, L0, L1 and the share of dead and dense latents.

    Definitions as in SAELens' evals: explained_variance = 1 − E‖x−x̂‖² / (E‖x‖² − ‖E x‖²);
    mse = E‖x−x̂‖²; l2_ratio = E(‖x̂‖/‖x‖) over x ≠ 0; relative_reconstruction_bias = E‖x̂‖² / E(x·x̂);
    explained_variance_legacy = E(1 − ‖x−x̂‖² / ‖x−x̄‖²) with x̄ the mean of x's batch, which makes
    it depend on batch_size: for comparison with older figures only; dead_fraction: latents that
    never fire; dense_fraction: latents that fire on over 10 %.
    """
    import torch

    from saecore.evaluation import Figure, held_out_parts
    from saecore.intervals import Jackknife

    device = sae.W_dec.device
    sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)
    mean = torch.zeros(sae.cfg.d_out, dtype=torch.float64, device=device)
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=device)
    groups = Jackknife(len(SUMS) + 3 + sae.cfg.d_out, device)
    count = not_zero = 0
    biases = []  # of batches
    for part in held_out_parts(sae, origin, held_out, config.batch_size):
        codes, x_hat = part.codes(sae), part.reconstruction(sae)
        x = part.targets.to(device).float().flatten(1)  # [N, d_out]
        squares, out, dot = x.square().sum(1), x_hat.square().sum(1), (x * x_hat).sum(1)
        norm, norm_out = squares.sqrt(), out.sqrt()
        cosine = dot / (norm * norm_out).clamp(min=1e-8)
        errors = (x - x_hat).square().sum(1)
        parts = (errors, squares, out, dot, cosine, norm, norm_out,
                 torch.where(norm > 0, norm_out / norm, 0.0))  # fmt: skip
        counts = codes.firing_counts()
        sums[:8] += torch.stack([one.double().sum() for one in parts])
        sums[8] += counts.sum()
        sums[9] += codes.values.abs().double().sum()
        mean += x.double().sum(0)
        fired += counts
        count += len(x)
        not_zero += int((norm > 0).sum())
        if config.bias_per_batch:
            biases.append(float(out.double().sum()) / (float(dot.double().sum()) or 1e-8))
        legacy = 1 - errors / (x - x.mean(0)).square().sum(1)
        per_row = (codes.sum_per_row(codes.firing().float()), codes.sum_per_row(codes.values.abs()))
        groups.add(part.context, *parts, *per_row, norm > 0, torch.ones_like(norm), legacy, x)
    if not count:
        return {}
    old = float(groups.sums[:, len(SUMS) + 2].sum())
    totals = torch.cat([sums, sums.new_tensor([not_zero, count, old]), mean])
    figures = {
        **figures_of(totals),
        "dead_fraction": float((fired == 0).double().mean()),
        "dense_fraction": float((fired > 0.1 * count).double().mean()),
    }
    intervals = groups.intervals(figures_of) if config.intervals else {}
    if config.bias_per_batch:
        figures["relative_reconstruction_bias"] = sum(biases) / len(biases)
        intervals.pop("relative_reconstruction_bias", None)
    wanted = {
        "reconstruction_quality": config.quality,
        "shrinkage": config.shrinkage,
        "sparsity": config.sparsity,
        "misc_metrics": config.sparsity,
    }
    return {
        name: Figure(figures[name], count, group, intervals.get(name))
        for group, names in GROUPS.items()
        if wanted[group]
        for name in names
    }


def figures_of(totals: Tensor) -> dict[str, float]:
    """Figures of sums over rows: `SUMS`, rows that are not zero, rows, the legacy one, and Σ x."""
    from saecore.metrics import explained_variance

    not_zero, count, legacy = totals[len(SUMS) : len(SUMS) + 3].tolist()
    means = dict(zip(SUMS, (totals[: len(SUMS)] / count).tolist(), strict=True))
    mean_square = float((totals[len(SUMS) + 3 :] / count).square().sum())
    return {
        "explained_variance": explained_variance(means["mse"], means["squares"], mean_square),
        "explained_variance_legacy": legacy / count,
        "mse": means["mse"],
        "cossim": means["cossim"],
        "l2_norm_in": means["l2_norm_in"],
        "l2_norm_out": means["l2_norm_out"],
        "l2_ratio": means["l2_ratio"] * count / max(1, not_zero),
        "relative_reconstruction_bias": means["squares_out"] / (means["dot"] or 1e-8),
        "l0": means["l0"],
        "l1": means["l1"],
    }


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
