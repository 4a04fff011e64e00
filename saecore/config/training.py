"""The [training] table of an experiment, and the tables in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from saecore.plugins.component import Choice
from saecore.plugins.fields import above, at_least, between, choice


@attrs.frozen(kw_only=True)
class CheckpointTable:
    """When checkpoints of a run are written."""

    every_minutes: float = attrs.field(default=10.0, validator=at_least(0))
    """Minutes between two checkpoints, with one more at the end; 0 turns this off, and without the
    keys below a checkpoint is then written only when a signal stops the run."""
    every_steps: int | None = attrs.field(default=None, validator=at_least(1))
    """Steps between two checkpoints, in addition to those of every_minutes."""
    count: int | None = attrs.field(default=None, validator=at_least(1))
    """Checkpoints spread evenly over the run, the last at its end; raise keep to have them all."""
    keep: int = attrs.field(default=2, validator=at_least(2))
    """How many of the newest checkpoints stay on disk."""

    @property
    def ever(self) -> bool:
        """Whether checkpoints are written at all; if so, there is always one at the end."""
        return bool(self.every_steps or self.every_minutes or self.count)


@attrs.frozen(kw_only=True)
class TrainingTable:
    """The optimization."""

    tokens: int = attrs.field(validator=at_least(1))
    """Tokens to train on; the number of steps is tokens // batch_size."""
    batch_size: int = attrs.field(default=4096, validator=at_least(1))
    """Tokens per optimizer step."""
    lr: float | Literal["auto"] = attrs.field(default=3e-4, validator=above(0))
    """Learning rate; "auto" is 2e-4 / sqrt(d_sae / 2^14) for adam, with 5e-3 for signum and 2e-3
    for muon instead of 2e-4."""
    lr_factors: dict[str, float] = attrs.field(factory=dict)
    """Factors of the learning rate for single parameters, such as `b_dec = 0.1`."""
    lr_schedule: Choice = choice("schedule", "constant")
    """How the learning rate changes over the run."""
    optimizer: Choice = choice("optimizer", "adam")
    """The optimizer."""
    ema: float | None = attrs.field(default=None, validator=between(0, 1))
    """Decay of a moving average of the weights, which is saved instead of them; default: none."""
    clip_norm: float = attrs.field(default=1.0, validator=at_least(0))
    """Largest total gradient norm; 0 turns clipping off."""
    accumulate: int = attrs.field(default=1, validator=at_least(1))
    """Parts into which a batch is split to save memory; their gradients are averaged."""
    loss: Literal["mse", "ce", "kl"] = "mse"
    """The reconstruction loss: "mse", squared error summed over features and averaged over tokens;
    or end to end, the cross-entropy or KL divergence of the model that runs on reconstructions."""
    autocast: bool = False
    """Run the SAE's matrix products in bfloat16; weights and losses keep their precision."""
    log_every_steps: int = attrs.field(default=10, validator=at_least(1))
    """Steps between two lines of metrics."""
    feature_sampling_window: int = attrs.field(default=2000, validator=at_least(1))
    """Steps over which the firing density of latents is measured."""
    bad_numbers: Literal["stop", "skip"] = "stop"
    """If a loss or gradient is not finite: stop the run, or skip the step and count it."""
    checkpoint: CheckpointTable = attrs.field(factory=CheckpointTable)
    """When checkpoints are written."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a run without a step, negative factors and parts of unequal size."""
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


@attrs.frozen(kw_only=True)
class InitTable:
    """The initial weights."""

    type: Literal["tied", "independent", "search"] = "tied"
    """Decoder rows in random directions, and the encoder their transpose ("tied") or in independent
    random directions ("independent"); "search" is tied, at the decoder norm with the smallest
    reconstruction loss."""
    decoder_norm: float = attrs.field(default=0.1, validator=above(0))
    """Initial norm of every decoder row; "search" tries a hundredth to fifty times this norm."""
    b_dec: Literal["zero", "mean", "geometric_median"] = "zero"
    """Initial decoder bias: 0, or the mean or geometric median of the activations to be
    reconstructed."""
    tokens: int = attrs.field(default=32_768, validator=at_least(1))
    """Tokens at the start of training from which bias and norm are estimated."""

    @property
    def needs_data(self) -> bool:
        """Whether activations are needed."""
        return self.type == "search" or self.b_dec != "zero"
