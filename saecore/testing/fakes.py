"""Small stand-ins for the other parts of a run, with deterministic random numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from saecore import ops
from saecore.core.architecture_config import ArchitectureConfig
from saecore.core.model import Replace
from saecore.core.sae import SAE
from saecore.core.sae_config import Metadata, Shape
from saecore.core.step import Batch, StepContext
from saecore.errors import DataError
from saecore.ops.codes import Codes
from saecore.randomness import generator
from saecore.training.trainer import Trainer, TrainerSettings

D_IN, D_SAE, TOKENS = 6, 20, 24
"""Sizes of everything in the kit."""


def rows(stream: str, *size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normally distributed numbers of a random stream."""
    numbers = torch.randn(size, generator=generator(0, stream), dtype=torch.float64)
    return numbers.to(dtype)


def context(batch: Batch, d_sae: int, scheduled: Mapping[str, float | Tensor] = {}) -> StepContext:
    """The context of a step in which every third latent is dead."""
    device = batch.inputs.device
    dead = torch.arange(d_sae, device=device) % 3 == 0
    draw = lambda stream: generator(0, stream, 5, device)  # noqa: E731
    return StepContext(
        step=5, scheduled=scheduled, dead=dead, targets=batch.targets, generator=draw
    )


class PlainSAE(SAE):
    """A minimal SAE: ReLU features, no penalty."""

    architecture = "kit_plain"

    def select(self, x: Tensor) -> Codes:
        """The positive pre-activations."""
        return ops.select_above(x, self.W_enc, self.b_enc, 0.0, center=self.center)


def plain_sae(dtype: torch.dtype = torch.float64, uses: type[PlainSAE] = PlainSAE) -> PlainSAE:
    """An SAE with random weights and biases whose metadata name the fake model."""
    sae = uses(ArchitectureConfig(), Shape(D_IN, D_IN, D_SAE, dtype=dtype))
    sae.initialize(generator(0, "kit"), 0.5)
    shift_biases(sae)
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({"hook_name": "h", "model_name": "kit"}))
    return sae


def shift_biases(sae: SAE) -> None:
    """Move the biases away from zero, which would hide mistakes."""
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name.startswith("b_"):
                parameter.add_(0.1 * rows(name, *parameter.shape).to(parameter))


class Rows:
    """An activation store of random rows."""

    def __init__(self, d_in: int, d_out: int, count: int = 16 * TOKENS) -> None:
        self.inputs = rows("inputs", count, d_in, dtype=torch.float32)
        same = d_in == d_out
        self.targets = self.inputs if same else rows("targets", count, d_out, dtype=torch.float32)
        self.position = 0

    def seek(self, position: int) -> None:
        """Continue from this position."""
        self.position = position

    def next(self, size: int) -> Batch:
        """The next rows.

        Raises:
            DataError: fewer rows are left.
        """
        end = self.position + size
        if end > len(self.inputs):
            raise DataError("the kit's rows have ended")
        part, self.position = slice(self.position, end), end
        inputs = self.inputs[part]
        return Batch(inputs, inputs if self.targets is self.inputs else self.targets[part])


class NoStrategy:
    """Normalizer and dead-latents strategy that do nothing."""

    tokens = 0

    def check(self, sae: SAE) -> None:
        """Accepts any SAE."""

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Nothing to estimate."""

    def apply(self, batch: Batch) -> Batch:
        """The batch itself."""
        return batch

    def restorer(self, batch: Batch) -> None:
        """Nothing to undo."""

    def fold(self, sae: SAE) -> None:
        """Nothing to fold."""

    def unfold(self, sae: SAE) -> None:
        """Nothing to unfold."""

    def after_tokens(self, batch_size: int) -> int:
        """A latent is dead after one silent batch."""
        return batch_size

    def losses(self, *_: Any) -> dict[str, Tensor]:
        """No losses."""
        return {}

    def acts(self, step: int) -> bool:
        """Never."""
        return False

    def after_step(self, sae: SAE, *_: Any) -> Tensor:
        """Nothing has been revived."""
        return torch.zeros(sae.cfg.d_sae, dtype=torch.bool)

    def state_dict(self) -> dict[str, Any]:
        """No state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """No state."""


def trainer(sae: SAE, steps: int) -> Trainer:
    """A trainer with Adam and a warm-up."""
    nothing = NoStrategy()
    settings = TrainerSettings(steps=steps, batch_size=TOKENS, lr=1e-2, feature_sampling_window=3)
    return Trainer(
        sae,
        Rows(sae.cfg.d_in, sae.cfg.d_out),
        torch.optim.Adam(sae.parameters(), lr=1e-2),
        settings,
        lr_schedule=lambda step, total: min(1.0, (step + 1) / 3),
        normalizer=nothing,
        dead_latents=nothing,
    )


class Tokenizer:
    """A tokenizer whose tokens are words; id 0 starts a text."""

    bos_token_id = eos_token_id = pad_token_id = 0
    vocab_size = 97

    def __call__(self, texts: str | Sequence[str], **_: Any) -> dict[str, Any]:
        """Token ids of a text, or of several."""
        if not isinstance(texts, str):
            return {"input_ids": [self.encode(text) for text in texts]}
        return {"input_ids": self.encode(texts)}

    def encode(self, text: str, **_: Any) -> list[int]:
        """Token ids of a text."""
        return [1 + sum(map(ord, word)) % 96 for word in re.findall(r"\w+|\W", text)]

    def get_vocab(self) -> dict[str, int]:
        """A name for each id."""
        return {f"t{i}": i for i in range(self.vocab_size)}


class Backend:
    """A language model of two matrices with one hook, `h`."""

    name = "kit"
    identity: ClassVar[dict[str, Any]] = {"name": "kit"}
    tokenizer = Tokenizer()
    vocab_size = Tokenizer.vocab_size
    max_context = None

    def __init__(self) -> None:
        self.embedding = rows("embedding", self.vocab_size, D_IN, dtype=torch.float32)
        self.unembed = rows("unembed", D_IN, self.vocab_size, dtype=torch.float32)

    def d(self, hook: str) -> tuple[int, ...]:
        """The size of activations."""
        return (D_IN,)

    def activations(self, tokens: Tensor, hooks: Sequence[str]) -> dict[str, Tensor]:
        """Activations `[B, T, d]`, which depend on a token and its predecessor."""
        value = self.embedding[tokens]
        value = value + 0.5 * value.roll(1, dims=1)
        return dict.fromkeys(hooks, value)

    def run_with(self, tokens: Tensor, replace: Mapping[str, Replace]) -> Tensor:
        """Logits `[B, T, vocab]`."""
        value = self.activations(tokens, ["h"])["h"]
        for function in replace.values():
            value = function(value)
        return value @ self.unembed
