"""The table [training] of an experiment, and the tables in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from saecore.components import Choice, choice
from saecore.config.validators import above, at_least, between


@attrs.frozen
class CheckpointTable:
    """When the state of a run is written to disk; one is always written at the end."""

    every_minutes: float = attrs.field(default=10.0, validator=at_least(0))
    """Minutes between two checkpoints; 0 counts none, and without the keys below none is written
    but when a signal stops the run."""
    every_steps: int | None = attrs.field(default=None, validator=at_least(1))
    """Steps between two checkpoints, besides those that every_minutes gives."""
    count: int | None = attrs.field(default=None, validator=at_least(1))
    """Checkpoints spread evenly over the run, the last at its end; raise keep to have them all."""
    keep: int = attrs.field(default=2, validator=at_least(2))
    """How many of the newest checkpoints stay on disk."""


@attrs.frozen
class TrainingTable:
    """The optimization."""

    tokens: int = attrs.field(validator=at_least(1))
    """Tokens to train on; the number of steps is tokens // batch_size."""
    batch_size: int = attrs.field(default=4096, validator=at_least(1))
    """Tokens per optimizer step."""
    lr: float | Literal["auto"] = attrs.field(default=3e-4, validator=above(0))
    """Learning rate; "auto" is 2e-4 / sqrt(d_sae / 2^14) for adam, and in place of 2e-4, 5e-3 for
    signum and 2e-3 for muon."""
    lr_factors: dict[str, float] = attrs.field(factory=dict)
    """Factors of the learning rate of some parameters, such as `b_dec = 0.1`."""
    lr_schedule: Choice = choice("schedule", "constant")
    """How the learning rate changes over the run."""
    optimizer: Choice = choice("optimizer", "adam")
    """The optimizer."""
    ema: float | None = attrs.field(default=None, validator=between(0, 1))
    """Decay of an average of the weights over steps, saved in their place; default: none."""
    clip_norm: float = attrs.field(default=1.0, validator=at_least(0))
    """Largest total gradient norm; 0 turns clipping off."""
    accumulate: int = attrs.field(default=1, validator=at_least(1))
    """Parts into which a batch is cut to save memory; the gradients are averaged."""
    loss: Literal["mse", "ce", "kl"] = "mse"
    """What reconstructions are judged by: squared error summed over features and averaged over
    tokens; or, end to end, the model's cross-entropy or KL divergence with them in its forward."""
    autocast: bool = False
    """Run the SAE's matrix products in bfloat16; weights and losses stay as they are."""
    log_every_steps: int = attrs.field(default=10, validator=at_least(1))
    """Steps between two lines of metrics."""
    feature_sampling_window: int = attrs.field(default=2000, validator=at_least(1))
    """Steps over which the firing density of latents is measured."""
    bad_numbers: Literal["stop", "skip"] = "stop"
    """At a loss or gradient that is not finite: stop the run, or skip the step and count it."""
    checkpoint: CheckpointTable = attrs.field(factory=CheckpointTable)
    """When the state of the run is written to disk."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a run without a step, and factors below zero."""
        for name, factor in self.lr_factors.items():
            if factor < 0:
                yield f"lr_factors.{name}", f"expected at least 0, got {factor}"
        if self.tokens < self.batch_size:
            yield (
                "tokens",
                f"expected at least one batch of {self.batch_size:_} tokens, got {self.tokens:_}",
            )
        if self.batch_size % self.accumulate:
            yield (
                "accumulate",
                f"expected a divisor of batch_size {self.batch_size}, got {self.accumulate}",
            )

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return self.tokens // self.batch_size
