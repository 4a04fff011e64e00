"""What passes between the trainer and the things it trains with, in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import torch
from torch import Tensor

from saecore.codes import Codes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from saecore.sae import SAE

Schedule = Callable[[int, int], float]
"""(step, total steps) -> multiplier."""


@attrs.frozen(eq=False)
class Batch:
    """Activations of N tokens."""

    inputs: Tensor
    """`[N, d_in]`, or `[N, hooks, d]` where several hooks are read."""
    targets: Tensor
    """What is to be reconstructed; the inputs, unless the experiment names target hooks."""
    tokens: Tensor | None = None
    """Token ids `[N]`."""
    positions: Tensor | None = None
    """Positions in their contexts `[N]`."""

    def __len__(self) -> int:
        return len(self.inputs)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Apply `function` to inputs and targets (once where they are the same tensor)."""
        inputs = function(self.inputs)
        same = self.targets is self.inputs
        return attrs.evolve(self, inputs=inputs, targets=inputs if same else function(self.targets))

    def split(self, parts: int) -> list[Batch]:
        """Cut into equal parts of consecutive tokens."""
        if parts == 1:
            return [self]
        size = len(self) // parts

        def cut(one: Tensor | None, at: int) -> Any:
            return None if one is None else one[at : at + size]

        fields = (self.inputs, self.targets, self.tokens, self.positions)
        return [Batch(*(cut(one, at) for one in fields)) for at in range(0, len(self), size)]


@attrs.frozen
class Scheduled:
    """A value that changes during training: `base * schedule(step, total)`."""

    base: float
    schedule: Schedule

    def at(self, step: int, total: int) -> float:
        """The value used in a step (counted from 0).

        It follows its schedule one step behind the learning rate: the first step of a warm-up
        uses 0, as in SAELens.
        """
        return self.base * self.schedule(step - 1, total)


@attrs.frozen(eq=False)
class StepContext:
    """What an architecture may know about the step besides its batch."""

    step: int
    """Number of the step, from 0."""
    scheduled: Mapping[str, float | Tensor]
    """The values of `SAE.scheduled()` in this step, by name."""
    dead: Tensor
    """Which latents are dead `[d_sae]`, bool."""
    targets: Tensor
    """What the reconstruction is compared with, `[N, d_out]` or `[N, hooks, d]`; raw where
    `restore` is given."""
    generator: Callable[[str], torch.Generator]
    """`generator(stream)`: randomness that belongs to this step."""
    restore: Callable[[Tensor], Tensor] | None = None
    """From the SAE's reconstruction to that of raw activations, where each token has a scale."""

    model_loss: Callable[[Tensor], Tensor] | None = None
    """The model's own loss with a reconstruction in its forward, in end-to-end training."""

    def restored(self, x_hat: Tensor) -> Tensor:
        """A reconstruction in the unit of `targets`."""
        return x_hat if self.restore is None else self.restore(x_hat)

    def reconstruction_loss(self, x_hat: Tensor) -> Tensor:
        """Squared error summed over features, averaged over tokens; or the model's own loss."""
        if self.model_loss is not None:
            return self.model_loss(self.restored(x_hat))
        difference = self.restored(x_hat).flatten(1) - self.targets.flatten(1)
        return difference.square().sum(-1).mean()


@attrs.frozen(eq=False)
class Level:
    """The reconstruction of a nested dictionary: latents below `stop`, of which those from
    `start` on are new.
    """

    start: int
    stop: int
    reconstruction: Tensor
    """`[N, d_out]`."""


@attrs.define(eq=False)
class StepOutput:
    """What a training step gives back."""

    losses: dict[str, Tensor]
    """Every loss by name, its coefficient applied; their sum is what is minimized."""
    codes: Codes
    """The features; what fires is read off them."""
    reconstruction: Tensor
    """`[N, d_out]`, in the unit of the batch."""
    levels: Sequence[Level] = ()
    """Reconstructions by nested groups of latents, where there are any."""

    @property
    def total(self) -> Tensor:
        """The sum of the losses."""
        return torch.stack(list(self.losses.values())).sum()


class DeadLatents(Protocol):
    """What is done about latents that have stopped firing."""

    def after_tokens(self, batch_size: int) -> int:
        """A latent is dead when it has not fired for more than this many tokens."""
        ...

    def losses(
        self, sae: SAE, batch: Batch, output: StepOutput, context: StepContext
    ) -> dict[str, Tensor]:
        """Losses to add, by name, coefficients applied."""
        ...

    def acts(self, step: int) -> bool:
        """Whether `after_step` is to be called in this step (from 0)."""
        ...

    def after_step(
        self, sae: SAE, optimizer: Optimizer, batch: Batch, context: StepContext
    ) -> Tensor:
        """Change weights after the optimizer's step; returns the latents `[d_sae]` (bool) that
        count as having fired because of it.
        """
        ...


class Normalizer(Protocol):
    """How activations are scaled before the SAE sees them, and how that is undone at the end."""

    tokens: int
    """Tokens of activations to estimate from; 0 where nothing is estimated."""

    def check(self, sae: SAE) -> None:
        """Refuse an SAE into which the scale cannot be folded.

        Raises:
            ConfigError: it is one.
        """
        ...

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Estimate the scale from batches of raw activations."""
        ...

    def apply(self, batch: Batch) -> Batch:
        """Scale a batch."""
        ...

    def restorer(self, batch: Batch) -> Callable[[Tensor], Tensor] | None:
        """The way back from reconstructions of a raw batch, where the loss is to be taken on raw
        activations; None where it is taken on scaled ones.
        """
        ...

    def fold(self, sae: SAE) -> None:
        """Change the weights in place so that the SAE takes raw activations."""
        ...

    def unfold(self, sae: SAE) -> None:
        """Change the weights of an SAE that takes raw activations so that it takes scaled ones.

        Raises:
            ConfigError: that is not possible.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """The estimate."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over an estimate."""
        ...


class Optimizer(Protocol):
    """What the trainer needs of an optimizer; torch's optimizers fit.

    Two more methods are used where an optimizer has them: `averaged()`, a context in which the
    parameters hold the weights to be saved (schedule-free optimizers train on others), and
    `reset_rows(parameter, latents)`, in place of what `saecore.optimizer.reset_rows` does. The
    config of its component may have a class attribute `auto_lr`: `training.lr = "auto"` is that
    over sqrt(d_sae / 2^14).
    """

    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Update the parameters from their gradients."""
        ...

    def zero_grad(self) -> None:
        """Forget the gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state."""
        ...
