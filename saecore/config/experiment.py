"""What an experiment file may say: one frozen attrs class per table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import attrs

from saecore.components import Choice, choice, choices, inline
from saecore.config.init import InitTable
from saecore.config.sources import default_evaluators, mismatches
from saecore.config.training import TrainingTable
from saecore.config.validators import above, at_least, between, device

MONITORS = (
    "activation_scale",
    "coefficient",
    "dominant_tokens",
    "dying_latents",
    "norm_drift",
    "thresholds",
)
"""The built-in monitors, all on by default: what they find is silent, and they cost nearly nothing.
"""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""A name that can be a directory's."""
NAME_EXPECTED = (
    "expected up to 96 letters, digits, dots, dashes or underscores, "
    "starting with a letter or digit"
)

Problem = tuple[str, str]
"""(key within the table, what is wrong with it)."""


@attrs.frozen
class ModelTable:
    """The language model and where to read its activations."""

    plugin: Choice = inline("model")
    """The model component; its own keys stand in the same table."""
    hook: str | None = None
    """Hook whose activations the SAE reads: a TransformerLens name or `module.path` / `path:in`."""
    hooks: tuple[str, ...] = ()
    """Several hooks at once, for architectures that read more than one."""
    target_hook: str | None = None
    """Hook whose activations are reconstructed; default: the hook that is read."""
    target_hooks: tuple[str, ...] = ()
    """Hooks whose activations are reconstructed, one for each of `hooks`, for architectures that
    take several."""
    head: int | None = attrs.field(default=None, validator=at_least(0))
    """Attention head to take from hook_z, hook_q, hook_k or hook_v; default: all, concatenated."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the language model."""
    device: str = attrs.field(default="auto", validator=device)
    """Where everything runs: "auto" (cuda, mps, cpu in this order) or a torch device."""

    def problems(self) -> Iterator[Problem]:
        """Report a missing or doubled hook, and targets that do not pair with what is read."""
        if (self.hook is None) == (not self.hooks):
            yield "hook", "expected exactly one of hook and hooks"
        if self.target_hook is not None and self.target_hooks:
            yield "target_hook", "expected at most one of target_hook and target_hooks"
        if self.target_hooks and len(self.target_hooks) != len(self.hooks):
            yield (
                "target_hooks",
                f"expected one for each of the {len(self.hooks)} hooks of model.hooks, "
                f"got {len(self.target_hooks)}",
            )

    @property
    def read_hooks(self) -> tuple[str, ...]:
        """The hooks that are read, one or several."""
        return self.hooks or (str(self.hook),)

    @property
    def targets(self) -> tuple[str, ...]:
        """The hooks that are reconstructed, where they are others than those that are read."""
        return self.target_hooks or ((self.target_hook,) if self.target_hook else ())


@attrs.frozen
class DatasetTable:
    """The text, and how it becomes contexts of tokens."""

    plugin: Choice = inline("dataset")
    """The dataset component; its own keys stand in the same table."""
    context_size: int = attrs.field(default=128, validator=at_least(2))
    """Tokens per context."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the order of contexts and of the mixing of activations, or of synthetic ones."""
    prepend_bos: bool = True
    """Begin every context with the tokenizer's BOS token."""
    separator: Literal["bos", "eos", "sep", "none"] | int = "bos"
    """Token put between two documents of one context; a number is a token id."""
    concat: bool = True
    """Pack documents one after another; false keeps only documents that fill a context."""
    exclude_special_tokens: bool | tuple[int, ...] = False
    """Leave out the activations at BOS, EOS, PAD and SEP tokens, or at the token ids listed."""
    positions: tuple[int, int] | None = attrs.field(default=None)
    """Use only positions a ≤ p < b of each context; negative numbers count from the end."""
    held_out: float = attrs.field(default=0.05, validator=between(0, 1))
    """Share of the documents never trained on, chosen by a hash of their names."""
    epochs: int = attrs.field(default=1, validator=at_least(1))
    """How often the text may be read, in a new order each time."""

    def problems(self) -> Iterator[Problem]:
        """Report positions that select nothing."""
        if self.positions is not None:
            kept = range(*slice(*self.positions).indices(self.context_size))
            if not kept:
                low, high = self.positions
                yield (
                    "positions",
                    f"expected at least one of the {self.context_size} positions, "
                    f"got [{low}, {high}]",
                )


@attrs.frozen
class BufferTable:
    """The window in which activations are mixed."""

    tokens: int = attrs.field(default=65_536, validator=at_least(1))
    """Tokens per fill; the window holds two fills (4 * d_in bytes a token each in float32)."""
    model_batch_size: int = attrs.field(default=32, validator=at_least(1))
    """Contexts per forward pass of the language model."""


@attrs.frozen
class L0ControlTable:
    """A controller that moves the sparsity coefficient until L0 is where it is wanted."""

    target: float = attrs.field(validator=above(0))
    """Wanted mean number of active latents per token."""
    speed: float = attrs.field(default=0.003, validator=above(0))
    """Relative change of the coefficient a step, per unit of relative error of L0."""


@attrs.frozen
class SAETable:
    """The sparse autoencoder."""

    plugin: Choice = inline("architecture")
    """The architecture; its own keys (k, l1_coefficient, …) stand in the same table."""
    d_in: int | None = attrs.field(default=None, validator=at_least(1))
    """Expected size of the activations; only checked against the model's."""
    d_sae: int | None = attrs.field(default=None, validator=at_least(1))
    """Number of latents."""
    expansion_factor: float | None = attrs.field(default=None, validator=above(0))
    """Number of latents as a multiple of d_in; in place of d_sae."""
    normalizer: Choice = choice("normalizer", "none")
    """How activations are scaled before they reach the SAE."""
    dead_latents: Choice = choice("dead_latents", "none")
    """What is done about latents that have stopped firing."""
    l0_control: L0ControlTable | None = None
    """Move the coefficient of the sparsity penalty towards a wanted L0."""
    decoder_norm: Literal["free", "unit"] = "free"
    """Keep every decoder row at norm 1, or leave the norms to training."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights."""
    init: InitTable = attrs.field(factory=InitTable)
    """Initialisation."""
    init_from: str | None = None
    """SAE whose weights to start from: its directory, or RELEASE:SAE_ID of catalogue or hub."""
    metadata: dict[str, Any] = attrs.field(factory=dict)
    """Anything to be kept in the saved SAE's metadata."""

    def problems(self) -> Iterator[Problem]:
        """Report a missing or doubled width."""
        try:
            json.dumps(self.metadata, allow_nan=False)
        except (TypeError, ValueError) as error:
            yield "metadata", f"expected values that JSON can hold: {error}"
        if self.init_from is not None and self.init != InitTable():
            yield "init", "has no effect with init_from; remove one of the two"
        if (self.d_sae is None) == (self.expansion_factor is None):
            yield "d_sae", "expected exactly one of d_sae and expansion_factor"

    def width(self, d_in: int) -> int:
        """The number of latents for activations of size `d_in`."""
        if self.d_sae is not None:
            return self.d_sae
        return round(d_in * float(self.expansion_factor or 0))


@attrs.frozen
class EvaluationTable:
    """Figures on held-out text."""

    tokens: int = attrs.field(default=32_768, validator=at_least(0))
    """Held-out tokens to evaluate on; 0 turns evaluation off."""
    every_tokens: int | None = attrs.field(default=None, validator=at_least(1))
    """Training tokens between two evaluations; default: only at the end."""
    calibrate_l0: float | None = attrs.field(default=None, validator=above(0))
    """Publish the SAE as JumpReLU with this mean L0: before it is saved, its threshold is set on
    the held-out tokens (so its L0 there is no longer a held-out figure)."""

    def problems(self) -> Iterator[Problem]:
        """Report a calibration on nothing."""
        if self.calibrate_l0 is not None and not self.tokens:
            yield "calibrate_l0", "expected evaluation.tokens above 0, on which to calibrate"


@attrs.frozen
class Experiment:
    """A whole experiment file. Everything that decides the result stands here."""

    model: ModelTable | None = attrs.field(default=None, kw_only=True)
    """The language model; none where the dataset gives activations itself."""
    dataset: DatasetTable
    """The text, or the activations."""
    sae: SAETable
    """The sparse autoencoder."""
    training: TrainingTable
    """The optimization."""
    name: str = "experiment"
    """Name of the run; its directory is <output>/<name>/<id>."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the initialisation and of everything random in training."""
    output: str = "runs"
    """Directory for runs, relative to the current one."""
    buffer: BufferTable = attrs.field(factory=BufferTable)
    """The mixing window."""
    evaluation: EvaluationTable = attrs.field(factory=EvaluationTable)
    """Held-out figures."""
    evaluator: tuple[Choice, ...] = choices("evaluator", default_evaluators)
    """What is measured on held-out data; default: those that the data allow."""
    monitor: tuple[Choice, ...] = choices("monitor", MONITORS)
    """What watches the run and warns, at log intervals; all there are unless some are listed."""
    logger: tuple[Choice, ...] = choices("logger")
    """Where metrics go besides metrics.jsonl; the console is added unless it is listed."""

    def problems(self) -> Iterator[Problem]:
        """Report a name that is not one directory, and a window that cannot hold a batch."""
        if NAME.fullmatch(self.name) is None:
            yield "name", f"{NAME_EXPECTED}, got {self.name!r}"
        if self.buffer.tokens < self.dataset.context_size:
            yield (
                "buffer.tokens",
                f"expected at least one context of {self.dataset.context_size} tokens, "
                f"got {self.buffer.tokens}",
            )
        yield from mismatches(self)

    @property
    def language_model(self) -> ModelTable:
        """The [model] table of an experiment that has one."""
        if self.model is None:
            raise LookupError("this experiment has no language model")
        return self.model
