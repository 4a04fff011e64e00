"""Data passed between the trainer and its components in one step: batch, context, output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.ops.codes import Codes


@attrs.frozen(eq=False)
class Batch:
    """Activations of N tokens."""

    inputs: Tensor
    """`[N, d_in]`, or `[N, hooks, d]` if several hooks are read."""
    targets: Tensor
    """Activations to reconstruct; the inputs, unless the experiment names target hooks."""
    tokens: Tensor | None = attrs.field(default=None, kw_only=True)
    """Token ids `[N]`."""
    positions: Tensor | None = attrs.field(default=None, kw_only=True)
    """Positions in their contexts `[N]`."""

    def __len__(self) -> int:
        return len(self.inputs)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Apply `function` to inputs and targets, only once if they are the same tensor."""
        inputs = function(self.inputs)
        same = self.targets is self.inputs
        return attrs.evolve(self, inputs=inputs, targets=inputs if same else function(self.targets))

    def split(self, parts: int) -> list[Batch]:
        """Split into equal parts of consecutive tokens."""
        if parts == 1:
            return [self]
        size = len(self) // parts

        def cut(tensor: Tensor | None, start: int) -> Any:
            return None if tensor is None else tensor[start : start + size]

        return [
            Batch(
                cut(self.inputs, start),
                cut(self.targets, start),
                tokens=cut(self.tokens, start),
                positions=cut(self.positions, start),
            )
            for start in range(0, len(self), size)
        ]


@attrs.frozen(eq=False, kw_only=True)
class StepContext:
    """The context of a training step, for architectures and dead-latents strategies."""

    step: int
    """Index of the step, from 0."""
    scheduled: Mapping[str, float | Tensor]
    """The values of `SAE.scheduled()` in this step, by name."""
    dead: Tensor
    """Which latents are dead `[d_sae]`, bool."""
    targets: Tensor
    """What the reconstruction is compared with, `[N, d_out]` or `[N, hooks, d]`; raw activations
    if there is a `restore`."""
    generator: Callable[[str], torch.Generator]
    """`generator(stream)`: random numbers for this step."""
    restore: Callable[[Tensor], Tensor] | None = None
    """Maps the SAE's reconstruction to raw activations, if each token has a scale."""

    model_loss: Callable[[Tensor], Tensor] | None = None
    """In end-to-end training: the language model's loss with a reconstruction spliced in."""

    def restored(self, x_hat: Tensor) -> Tensor:
        """A reconstruction in the units of `targets`."""
        return x_hat if self.restore is None else self.restore(x_hat)

    def reconstruction_loss(self, x_hat: Tensor) -> Tensor:
        """Squared error, summed over dimensions and averaged over tokens; or `model_loss`."""
        if self.model_loss is not None:
            return self.model_loss(self.restored(x_hat))
        difference = self.restored(x_hat).flatten(1) - self.targets.flatten(1)
        return difference.square().sum(-1).mean()


@attrs.frozen(eq=False)
class Level:
    """The reconstruction of one nested dictionary.

    It uses the latents below `stop`; those from `start` on are not in the previous level.
    """

    start: int
    stop: int
    reconstruction: Tensor
    """`[N, d_out]`."""


@attrs.define(eq=False)
class StepOutput:
    """The result of a training step."""

    losses: dict[str, Tensor]
    """Every loss by name, its coefficient applied; their sum is minimized."""
    codes: Codes
    """The features, from which firing is counted."""
    reconstruction: Tensor
    """`[N, d_out]`, in the units of the batch."""
    levels: Sequence[Level] = attrs.field(default=(), kw_only=True)
    """Reconstructions of nested dictionaries, if there are any."""

    @property
    def total(self) -> Tensor:
        """The sum of the losses."""
        return torch.stack(list(self.losses.values())).sum()
