"""What strategies against dead latents have in common."""

from __future__ import annotations

from torch import Tensor

from saecore.config.dead_latents import DeadLatentsConfig
from saecore.sae import SAE
from saecore.step import Batch, Optimizer, StepContext, StepOutput


class DeadLatentsStrategy:
    """A `DeadLatents` that does nothing: no losses, no change of weights.

    Args:
        config: when a latent counts as dead.
    """

    def __init__(self, config: DeadLatentsConfig) -> None:
        self.dead_config = config

    def after_tokens(self, batch_size: int) -> int:
        """Tokens without firing after which a latent is dead."""
        return self.dead_config.dead_after(batch_size)

    def losses(
        self, sae: SAE, batch: Batch, output: StepOutput, context: StepContext
    ) -> dict[str, Tensor]:
        """No losses."""
        return {}

    def acts(self, step: int) -> bool:
        """In no step."""
        return False

    def after_step(
        self, sae: SAE, optimizer: Optimizer, batch: Batch, context: StepContext
    ) -> Tensor:
        """No latent is revived."""
        return context.dead & False
