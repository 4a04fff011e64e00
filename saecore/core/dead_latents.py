"""Dead latents: when a latent counts as dead, and strategies against it.

Free of torch at import, because the configs of plugins derive from `DeadLatentsConfig`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import attrs

from saecore.plugins.fields import at_least

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.optimizer import Optimizer
    from saecore.core.sae import SAE
    from saecore.core.step import Batch, StepContext, StepOutput


class DeadLatents(Protocol):
    """A strategy for latents that have stopped firing."""

    def after_tokens(self, batch_size: int) -> int:
        """Number of tokens without firing after which a latent is dead."""
        ...

    def losses(
        self, sae: SAE, batch: Batch, output: StepOutput, context: StepContext
    ) -> dict[str, Tensor]:
        """Losses to add, by name, coefficients applied."""
        ...

    def acts(self, step: int) -> bool:
        """Whether `after_step` is called in this step (from 0)."""
        ...

    def after_step(
        self, sae: SAE, optimizer: Optimizer, batch: Batch, context: StepContext
    ) -> Tensor:
        """Change weights after the optimizer step; return a bool mask `[d_sae]` of the latents
        that it revived, which then count as having fired.
        """
        ...


@attrs.frozen
class DeadLatentsConfig:
    """When a latent counts as dead."""

    after_tokens: int | None = attrs.field(default=None, validator=at_least(1), kw_only=True)
    """A latent counts as dead when it has not fired for more than this many tokens; default:
    10,000,000."""
    after_steps: int | None = attrs.field(default=None, validator=at_least(1), kw_only=True)
    """The limit as a number of steps, instead of after_tokens."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report conflicting definitions of dead."""
        if self.after_tokens is not None and self.after_steps is not None:
            yield "after_steps", "expected only one of after_tokens and after_steps"

    def dead_after(self, batch_size: int) -> int:
        """Number of tokens without firing after which a latent is dead."""
        if self.after_steps is not None:
            return self.after_steps * batch_size
        return 10_000_000 if self.after_tokens is None else self.after_tokens


class DeadLatentsStrategy:
    """A `DeadLatents` that adds no losses and changes no weights; base of the others.

    Args:
        config: when a latent counts as dead.
    """

    def __init__(self, config: DeadLatentsConfig) -> None:
        self.dead_config = config

    def after_tokens(self, batch_size: int) -> int:
        """Number of tokens without firing after which a latent is dead."""
        return self.dead_config.dead_after(batch_size)

    def losses(
        self, sae: SAE, batch: Batch, output: StepOutput, context: StepContext
    ) -> dict[str, Tensor]:
        """No losses."""
        return {}

    def acts(self, step: int) -> bool:
        """Never."""
        return False

    def after_step(
        self, sae: SAE, optimizer: Optimizer, batch: Batch, context: StepContext
    ) -> Tensor:
        """No latent is revived."""
        return context.dead & False
