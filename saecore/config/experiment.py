"""The settings of an experiment file: one frozen attrs class per table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import attrs

from saecore.config.checks import default_evaluators, mismatches
from saecore.config.training import InitTable, TrainingTable
from saecore.plugins.component import Choice
from saecore.plugins.fields import above, at_least, between, choice, choices, device, inline
from saecore.plugins.problems import exactly_one

MONITORS = (
    "activation_scale",
    "coefficient",
    "dominant_tokens",
    "dying_latents",
    "norm_drift",
    "thresholds",
)
"""The built-in monitors, all on by default: they cost almost nothing and only warn of problems."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""Names that are allowed for experiments, and so for directories."""
NAME_EXPECTED = (
    "expected up to 96 letters, digits, dots, dashes or underscores, "
    "starting with a letter or digit"
)

Problem = tuple[str, str]
"""(key within the table, message)."""


@attrs.frozen(kw_only=True)
class ModelTable:
    """The language model and the hooks of its activations."""

    backend: Choice = inline("model")
    """The model component; its keys belong to the same table."""
    hook: str | None = None
    """Hook whose activations the SAE reads: a TransformerLens name or `module.path` / `path:in`."""
    hooks: tuple[str, ...] = ()
    """Several hooks at once, for architectures that read more than one."""
    target_hook: str | None = None
    """Hook whose activations the SAE reconstructs; default: the hook that it reads."""
    target_hooks: tuple[str, ...] = ()
    """Hooks whose activations are reconstructed, one for each of `hooks`, for architectures with
    several targets."""
    head: int | None = attrs.field(default=None, validator=at_least(0))
    """Attention head of hook_z, hook_q, hook_k or hook_v; default: all heads, concatenated."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the language model."""
    device: str = attrs.field(default="auto", validator=device)
    """Device of model and SAE: "auto" (cuda, mps or cpu, the first available) or a torch device."""

    def problems(self) -> Iterator[Problem]:
        """Report missing or contradictory hooks, and targets that do not pair with them."""
        yield from exactly_one(self, "hook", "hooks")
        if self.target_hook is not None and self.target_hooks:
            yield "target_hook", "expected at most one of target_hook and target_hooks, got both"
        if self.target_hooks and len(self.target_hooks) != len(self.hooks):
            yield (
                "target_hooks",
                f"expected one for each of the {len(self.hooks)} hooks of model.hooks, "
                f"got {len(self.target_hooks)}",
            )

    @property
    def read_hooks(self) -> tuple[str, ...]:
        """The hooks that the SAE reads."""
        return self.hooks or (str(self.hook),)

    @property
    def targets(self) -> tuple[str, ...]:
        """The hooks that the SAE reconstructs, if they differ from those that it reads."""
        return self.target_hooks or ((self.target_hook,) if self.target_hook else ())


@attrs.frozen(kw_only=True)
class DatasetTable:
    """The text, and how it is split into contexts of tokens."""

    loader: Choice = inline("dataset")
    """The dataset component; its keys belong to the same table."""
    context_size: int = attrs.field(default=128, validator=at_least(2))
    """Tokens per context."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the order of contexts and the mixing of activations, or of synthetic activations."""
    prepend_bos: bool = True
    """Start every context with the tokenizer's BOS token."""
    separator: Literal["bos", "eos", "sep", "none"] | int = "bos"
    """Token between two documents in a context; a number is a token id."""
    concat: bool = True
    """Pack documents one after another; false uses only documents that fill a context."""
    exclude_special_tokens: bool | tuple[int, ...] = False
    """Exclude activations at BOS, EOS, PAD and SEP tokens, or at the listed token ids."""
    positions: tuple[int, int] | None = attrs.field(default=None)
    """Use only positions a ≤ p < b of each context; negative numbers count from the end."""
    held_out: float = attrs.field(default=0.05, validator=between(0, 1))
    """Fraction of documents held out from training, chosen by a hash of their names."""
    epochs: int = attrs.field(default=1, validator=at_least(1))
    """How often the text may be repeated, each time in a new order."""

    def problems(self) -> Iterator[Problem]:
        """Report positions that select nothing."""
        if self.positions is not None:
            selected = range(*slice(*self.positions).indices(self.context_size))
            if not selected:
                low, high = self.positions
                yield (
                    "positions",
                    f"expected at least one of the {self.context_size} positions, "
                    f"got [{low}, {high}]",
                )


@attrs.frozen
class BufferTable:
    """The buffer in which activations are mixed."""

    tokens: int = attrs.field(default=65_536, validator=at_least(1))
    """Tokens per fill; the buffer holds two fills (4 * d_in bytes per token in float32)."""
    model_batch_size: int = attrs.field(default=32, validator=at_least(1))
    """Contexts per forward pass of the language model."""


@attrs.frozen
class L0ControlTable:
    """A controller that adjusts the sparsity coefficient to reach a target L0."""

    target: float = attrs.field(validator=above(0))
    """Target mean number of active latents per token."""
    speed: float = attrs.field(default=0.003, validator=above(0))
    """Relative change of the coefficient per step, per unit of relative error of L0."""


@attrs.frozen(kw_only=True)
class SAETable:
    """The sparse autoencoder."""

    architecture: Choice = inline("architecture")
    """The architecture; its keys (k, l1_coefficient, …) belong to the same table."""
    d_in: int | None = attrs.field(default=None, validator=at_least(1))
    """Expected size of the activations; only compared with the model's."""
    d_sae: int | None = attrs.field(default=None, validator=at_least(1))
    """Number of latents."""
    expansion_factor: float | None = attrs.field(default=None, validator=above(0))
    """Number of latents as a multiple of d_in; replaces d_sae."""
    normalizer: Choice = choice("normalizer", "none")
    """How activations are scaled before the SAE reads them."""
    dead_latents: Choice = choice("dead_latents", "none")
    """What to do about latents that have stopped firing."""
    l0_control: L0ControlTable | None = None
    """Adjust the coefficient of the sparsity penalty to reach a target L0."""
    decoder_norm: Literal["free", "unit"] = "free"
    """Keep every decoder row at norm 1 ("unit"), or train the norms ("free")."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights."""
    init: InitTable = attrs.field(factory=InitTable)
    """The initial weights."""
    init_from: str | None = None
    """SAE whose weights to start from: a directory, or RELEASE:SAE_ID of the catalogue or hub."""
    metadata: dict[str, Any] = attrs.field(factory=dict)
    """Additional entries of the saved SAE's metadata."""

    def problems(self) -> Iterator[Problem]:
        """Report a missing or contradictory width, and settings without effect."""
        try:
            json.dumps(self.metadata, allow_nan=False)
        except (TypeError, ValueError) as error:
            yield "metadata", f"expected values that JSON can represent: {error}"
        if self.init_from is not None and self.init != InitTable():
            yield "init", "has no effect with init_from; remove one of the two"
        yield from exactly_one(self, "d_sae", "expansion_factor")

    def width(self, d_in: int) -> int:
        """Return the number of latents for activations of size `d_in`."""
        if self.d_sae is not None:
            return self.d_sae
        return round(d_in * float(self.expansion_factor or 0))


@attrs.frozen
class EvaluationTable:
    """Evaluation on held-out text."""

    tokens: int = attrs.field(default=32_768, validator=at_least(0))
    """Held-out tokens to evaluate on; 0 turns evaluation off."""
    every_tokens: int | None = attrs.field(default=None, validator=at_least(1))
    """Training tokens between two evaluations; default: evaluate only at the end."""
    calibrate_l0: float | None = attrs.field(default=None, validator=above(0))
    """Save the SAE as JumpReLU with this mean L0: its threshold is set on the held-out tokens (so
    that the L0 measured there is no longer held-out)."""

    def problems(self) -> Iterator[Problem]:
        """Report a calibration without tokens."""
        if self.calibrate_l0 is not None and not self.tokens:
            yield "calibrate_l0", "needs held-out tokens; set evaluation.tokens above 0"


@attrs.frozen(kw_only=True)
class Experiment:
    """An experiment file: every setting that affects the result."""

    model: ModelTable | None = attrs.field(default=None, kw_only=True)
    """The language model; none if the dataset has activations already."""
    dataset: DatasetTable
    """The text, or the activations."""
    sae: SAETable
    """The sparse autoencoder."""
    training: TrainingTable
    """The optimization."""
    name: str = "experiment"
    """Name of the run; its directory is <output>/<name>/<id>."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the initialization and of everything random in training."""
    output: str = "runs"
    """Directory for runs, relative to the current one."""
    buffer: BufferTable = attrs.field(factory=BufferTable)
    """The mixing buffer."""
    evaluation: EvaluationTable = attrs.field(factory=EvaluationTable)
    """Evaluation on held-out text."""
    evaluator: tuple[Choice, ...] = choices("evaluator", default_evaluators)
    """Evaluators on held-out data; default: all built-in ones that model and dataset allow."""
    monitor: tuple[Choice, ...] = choices("monitor", MONITORS)
    """Checks at log intervals that warn of problems; default: all built-in monitors."""
    logger: tuple[Choice, ...] = choices("logger")
    """Where metrics go in addition to metrics.jsonl; the console is added unless it is listed."""

    def problems(self) -> Iterator[Problem]:
        """Report a name that cannot be a directory, a small buffer, and incompatible settings."""
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
        """The [model] table, of an experiment that has one."""
        if self.model is None:
            raise LookupError("this experiment has no language model")
        return self.model
