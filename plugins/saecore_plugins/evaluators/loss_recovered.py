"""Loss of the language model when reconstructions replace the activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, at_least, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.evaluator import Evaluator, Metric
    from saecore.core.run_sizes import RunSizes
    from saecore.core.sae import SAE
    from saecore.evaluation.batches import HeldOut


@attrs.frozen(kw_only=True)
class LossRecoveredConfig:
    """Settings of the evaluator."""

    batch_size: int = attrs.field(default=8, validator=at_least(1))
    """Contexts per forward pass; three sets of logits are held at once."""
    kl: bool = True
    """Report the KL divergences and their score."""
    ce: bool = True
    """Report the cross-entropies and their score."""
    intervals: bool = True
    """Report 95 % confidence intervals from a jackknife over contexts."""

    def extra_memory(self, sizes: RunSizes) -> int:
        """Bytes of two sets of logits, and of three more while their divergence is computed."""
        return 5 * 4 * self.batch_size * sizes.context_size * sizes.vocab_size


def build(config: LossRecoveredConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, held_out, config)


def measure(sae: SAE, held_out: HeldOut, config: LossRecoveredConfig) -> dict[str, Metric]:
    """Cross-entropy and KL divergence (nats per token) with reconstructions, and with zeros.

    ce_loss_score = (CE_ablated − CE_sae) / (CE_ablated − CE) and kl_div_score = (KL_ablated −
    KL_sae) / KL_ablated: 1 is perfect, 0 is no better than zeros. KL is KL(P‖Q) with
    P the original model's distribution and Q the changed model's. Definitions as in SAELens' evals.
    """
    import torch

    from saecore.core.evaluator import Metric
    from saecore.evaluation.batches import HookReader
    from saecore.evaluation.intervals import Jackknife

    backend = held_out.model
    reader = HookReader.of(sae, backend)
    sums = torch.zeros(5, dtype=torch.float64)
    groups = Jackknife(7, sums.device)
    predictions = positions = 0
    for part in held_out.contexts.split(config.batch_size):
        used = reader.used(part)
        changes = (reader.replacements(sae, backend, part, used), reader.ablations(used))
        clean = backend.run_with(part, {}).float().log_softmax(-1)  # [B, T, vocab]
        targets = part[:, 1:, None].to(clean.device)
        each = torch.zeros(len(part), 7, dtype=torch.float64)  # by context
        each[:, 5:] = torch.tensor([part.shape[1] - 1, part.shape[1]])

        def log_likelihood(logits: Tensor, targets: Tensor = targets) -> tuple[Tensor, Tensor]:
            log_p = logits[:, :-1].gather(-1, targets).double()
            return log_p.sum().cpu(), log_p.sum((1, 2)).cpu()

        total, each[:, 0] = log_likelihood(clean)
        sums[0] -= total
        for i, change in enumerate(changes):
            other = backend.run_with(part, change).float().log_softmax(-1)
            total, each[:, 1 + i] = log_likelihood(other)
            sums[1 + i] -= total
            if config.kl:
                divergence = torch.nn.functional.kl_div(
                    other, clean, log_target=True, reduction="none"
                ).sum(-1)
                sums[3 + i] += divergence.double().sum().cpu()
                each[:, 3 + i] = divergence.double().sum(1).cpu()
        each[:, :3] *= -1
        groups.add(torch.arange(len(part)) + positions // part.shape[1], each)
        predictions += targets.numel()
        positions += part.numel()
    if not predictions:
        return {}
    values = metrics_of_sums(torch.cat([sums, sums.new_tensor([predictions, positions])]))
    intervals = groups.intervals(metrics_of_sums) if config.intervals else {}
    metrics = {}
    for name, value in values.items():
        is_ce = name.startswith("ce_")
        if config.ce if is_ce else config.kl:
            group = "model_performance_preservation" if is_ce else "model_behavior_preservation"
            count = predictions if is_ce else positions
            metrics[name] = Metric(value, count, group=group, interval=intervals.get(name))
    return metrics


def metrics_of_sums(totals: Tensor) -> dict[str, float]:
    """Metrics from sums `[7]`: CE, CE with SAE, CE ablated, KL of both, predictions, tokens."""
    ce, ce_sae, ce_ablated = (totals[:3] / totals[5]).tolist()
    kl_sae, kl_ablated = (totals[3:5] / totals[6]).tolist()
    return {
        "ce_loss_score": (ce_ablated - ce_sae) / ((ce_ablated - ce) or 1e-8),
        "ce_loss_with_sae": ce_sae,
        "ce_loss_without_sae": ce,
        "ce_loss_with_ablation": ce_ablated,
        "kl_div_score": (kl_ablated - kl_sae) / (kl_ablated or 1e-8),
        "kl_div_with_sae": kl_sae,
        "kl_div_with_ablation": kl_ablated,
    }


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="loss_recovered",
        config=LossRecoveredConfig,
        build=build,
        summary="cross-entropy and KL divergence with the SAE in the model, and their scores",
    )
