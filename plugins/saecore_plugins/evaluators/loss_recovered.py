"""What the language model loses when the SAE's reconstruction takes the activation's place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.backend import ModelBackend
    from saecore.evaluation import Evaluator, Figure
    from saecore.plan import Sizes
    from saecore.sae import SAE


@attrs.frozen
class LossRecoveredConfig:
    """Settings of the measurement."""

    batch_size: int = attrs.field(default=8, validator=at_least(1))
    """Contexts per forward; three sets of logits are held at once."""
    kl: bool = True
    """Give the KL divergences and their score."""
    ce: bool = True
    """Give the cross-entropies and their score."""
    intervals: bool = True
    """Give 95 % confidence intervals, by a jackknife over contexts."""

    def extra_memory(self, sizes: Sizes) -> int:
        """Two sets of logits, and three more while their divergence is computed."""
        return 5 * 4 * self.batch_size * sizes.context_size * sizes.vocab_size


def build(config: LossRecoveredConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, backend, tokens: measure(sae, backend, tokens, config)


def measure(
    sae: SAE, backend: ModelBackend, tokens: Tensor, config: LossRecoveredConfig
) -> dict[str, Figure]:
    """Cross-entropy and KL divergence (nats per token) with the SAE and with zeros in its place.

    ce_loss_score = (CE_ablated − CE_sae) / (CE_ablated − CE) and kl_div_score = (KL_ablated −
    KL_sae) / KL_ablated: 1 is perfect, 0 no better than zeros. KL is from the model's own
    distribution to the other. Definitions as in SAELens' evals.
    """
    import torch

    from saecore.evaluation import Figure, Reading, batches
    from saecore.intervals import Jackknife

    reading = Reading.of(sae, backend)
    sums = torch.zeros(5, dtype=torch.float64)
    groups = Jackknife(7, sums.device)
    predictions = positions = 0
    for part in batches(tokens, config.batch_size):
        used = reading.used(part)

        changes = (reading.replacements(sae, backend, part, used), reading.ablations(used))
        clean = backend.run_with(part, {}).float().log_softmax(-1)  # [B, T, vocab]
        targets = part[:, 1:, None].to(clean.device)
        each = torch.zeros(len(part), 7, dtype=torch.float64)  # by context
        each[:, 5:] = torch.tensor([part.shape[1] - 1, part.shape[1]])

        def entropy(logits: Tensor, targets: Tensor = targets) -> tuple[Tensor, Tensor]:
            chosen = logits[:, :-1].gather(-1, targets).double()
            return chosen.sum().cpu(), chosen.sum((1, 2)).cpu()

        total, each[:, 0] = entropy(clean)
        sums[0] -= total
        for i, change in enumerate(changes):
            other = backend.run_with(part, change).float().log_softmax(-1)
            total, each[:, 1 + i] = entropy(other)
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
    values = figures_of(torch.cat([sums, sums.new_tensor([predictions, positions])]))
    intervals = groups.intervals(figures_of) if config.intervals else {}
    found = {}
    for name, value in values.items():
        ce = name.startswith("ce_")
        if config.ce if ce else config.kl:
            group = "model_performance_preservation" if ce else "model_behavior_preservation"
            count = predictions if ce else positions
            found[name] = Figure(value, count, group, intervals.get(name))
    return found


def figures_of(totals: Tensor) -> dict[str, float]:
    """Figures of the sums CE, CE with the SAE, CE ablated, KL of both, predictions, tokens."""
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
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="loss_recovered",
        config=LossRecoveredConfig,
        build=build,
        summary="cross-entropy and KL with the SAE in the model, and their scores",
    )
