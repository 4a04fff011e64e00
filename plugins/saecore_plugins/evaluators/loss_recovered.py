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

    def extra_memory(self, sizes: Sizes) -> int:
        """Two sets of logits, and three more while their divergence is computed."""
        return 5 * 4 * self.batch_size * sizes.context_size * sizes.vocab_size


def build(config: LossRecoveredConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, backend, tokens: measure(sae, backend, tokens, config.batch_size)


def measure(sae: SAE, backend: ModelBackend, tokens: Tensor, batch_size: int) -> dict[str, Figure]:
    """Cross-entropy and KL divergence (nats per token) with the SAE and with zeros in its place.

    ce_loss_score = (CE_ablated − CE_sae) / (CE_ablated − CE) and kl_div_score = (KL_ablated −
    KL_sae) / KL_ablated: 1 is perfect, 0 no better than zeros. KL is from the model's own
    distribution to the other. Definitions as in SAELens' evals.
    """
    import torch

    from saecore.evaluation import Figure, Reading, batches

    reading = Reading.of(sae, backend)
    sums = torch.zeros(5, dtype=torch.float64)
    predictions = positions = 0
    for part in batches(tokens, batch_size):
        used = reading.used(part)

        changes = (reading.replacements(sae, backend, part, used), reading.ablations(used))
        clean = backend.run_with(part, {}).float().log_softmax(-1)  # [B, T, vocab]
        targets = part[:, 1:, None].to(clean.device)
        sums[0] -= clean[:, :-1].gather(-1, targets).double().sum().cpu()
        for i, change in enumerate(changes):
            other = backend.run_with(part, change).float().log_softmax(-1)
            sums[1 + i] -= other[:, :-1].gather(-1, targets).double().sum().cpu()
            divergence = torch.nn.functional.kl_div(other, clean, log_target=True, reduction="none")
            sums[3 + i] += divergence.sum(-1).double().sum().cpu()
        predictions += targets.numel()
        positions += part.numel()
    if not predictions:
        return {}
    ce, ce_sae, ce_ablated = (sums[:3] / predictions).tolist()
    kl_sae, kl_ablated = (sums[3:] / positions).tolist()
    figures = {
        "ce_loss_score": ((ce_ablated - ce_sae) / ((ce_ablated - ce) or 1e-8), predictions),
        "ce_loss_with_sae": (ce_sae, predictions),
        "ce_loss_without_sae": (ce, predictions),
        "ce_loss_with_ablation": (ce_ablated, predictions),
        "kl_div_score": ((kl_ablated - kl_sae) / (kl_ablated or 1e-8), positions),
        "kl_div_with_sae": (kl_sae, positions),
        "kl_div_with_ablation": (kl_ablated, positions),
    }
    return {name: Figure(value, count) for name, (value, count) in figures.items()}


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
