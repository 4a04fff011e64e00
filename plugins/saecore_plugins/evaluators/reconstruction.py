"""Quality and sparsity of reconstructions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, at_least, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.evaluator import Evaluator, Metric
    from saecore.core.sae import SAE
    from saecore.evaluation.batches import HeldOut


@attrs.frozen(kw_only=True)
class ReconstructionConfig:
    """Settings of the evaluator."""

    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Contexts per forward pass."""
    quality: bool = True
    """Report explained_variance, explained_variance_legacy, mse and cossim."""
    shrinkage: bool = True
    """Report l2_norm_in, l2_norm_out, l2_ratio and relative_reconstruction_bias."""
    sparsity: bool = True
    """Report l0, l1, dead_fraction and dense_fraction."""
    bias_per_batch: bool = False
    """Compute relative_reconstruction_bias per batch and average, as SAELens does, instead of over
    all tokens at once; it then depends on batch_size, and has no interval."""
    intervals: bool = True
    """Report 95 % confidence intervals from a jackknife over contexts."""

    def groups(self) -> tuple[str, ...]:
        """The groups of metrics to report."""
        return (
            *(("reconstruction_quality",) if self.quality else ()),
            *(("shrinkage",) if self.shrinkage else ()),
            *(("sparsity", "misc_metrics") if self.sparsity else ()),
        )


GROUPS = {
    "reconstruction_quality": ("explained_variance", "explained_variance_legacy", "mse", "cossim"),
    "shrinkage": ("l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias"),
    "sparsity": ("l0", "l1"),
    "misc_metrics": ("dead_fraction", "dense_fraction"),
}
"""Groups of metrics, with SAELens' names; misc_metrics is SAEBench's."""

SUMS = ("mse", "squares", "squares_out", "dot", "cossim", "l2_norm_in", "l2_norm_out", "l2_ratio",
        "l0", "l1")  # fmt: skip
"""Quantities that are summed over rows."""


def build(config: ReconstructionConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, held_out, config)


def measure(sae: SAE, held_out: HeldOut, config: ReconstructionConfig) -> dict[str, Metric]:
    """Explained variance, MSE, cosine, norms, L0, L1 and the share of dead and dense latents.

    Definitions as in SAELens' evals:

    - explained_variance = 1 − E‖x−x̂‖² / (E‖x‖² − ‖E x‖²); mse = E‖x−x̂‖²;
    - l2_ratio = E(‖x̂‖/‖x‖) over x ≠ 0; relative_reconstruction_bias = E‖x̂‖² / E(x·x̂);
    - explained_variance_legacy = E(1 − ‖x−x̂‖² / ‖x−x̄‖²) with x̄ the mean of x's batch; it depends
      on batch_size and is meant for comparison with older figures only;
    - dead_fraction: share of latents that never fire; dense_fraction: share of latents that fire
      on over 10 % of the tokens.
    """
    import torch

    from saecore.core.evaluator import Metric
    from saecore.evaluation.intervals import Jackknife

    device = sae.W_dec.device
    sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)
    mean = torch.zeros(sae.cfg.d_out, dtype=torch.float64, device=device)
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=device)
    groups = Jackknife(len(SUMS) + 3 + sae.cfg.d_out, device)
    count = not_zero = 0
    biases = []  # one per batch
    for part in held_out.parts(sae, config.batch_size):
        codes, x_hat = part.codes(sae), part.reconstruction(sae)
        x = part.targets.to(device).float().flatten(1)  # [N, d_out]
        squares, out, dot = x.square().sum(1), x_hat.square().sum(1), (x * x_hat).sum(1)
        norm, norm_out = squares.sqrt(), out.sqrt()
        cosine = dot / (norm * norm_out).clamp(min=1e-8)
        errors = (x - x_hat).square().sum(1)
        parts = (errors, squares, out, dot, cosine, norm, norm_out,
                 torch.where(norm > 0, norm_out / norm, 0.0))  # fmt: skip
        counts = codes.firing_counts()
        sums[:8] += torch.stack([values.double().sum() for values in parts])
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
    legacy_sum = float(groups.sums[:, len(SUMS) + 2].sum())
    totals = torch.cat([sums, sums.new_tensor([not_zero, count, legacy_sum]), mean])
    metrics = {
        **metrics_of_sums(totals),
        "dead_fraction": float((fired == 0).double().mean()),
        "dense_fraction": float((fired > 0.1 * count).double().mean()),
    }
    intervals = groups.intervals(metrics_of_sums) if config.intervals else {}
    if config.bias_per_batch:
        metrics["relative_reconstruction_bias"] = sum(biases) / len(biases)
        intervals.pop("relative_reconstruction_bias", None)
    return {
        name: Metric(metrics[name], count, group=group, interval=intervals.get(name))
        for group in config.groups()
        for name in GROUPS[group]
    }


def metrics_of_sums(totals: Tensor) -> dict[str, float]:
    """Metrics from sums: `SUMS`, nonzero rows, rows, the legacy explained variance, and Σ x."""
    from saecore.training.metrics import explained_variance

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
    yield Component(
        kind="evaluator",
        name="reconstruction",
        config=ReconstructionConfig,
        build=build,
        summary="explained variance, MSE, cosine, norms, L0, L1, dead and dense latents",
        requires="activations",
    )
