"""Figures on held-out text: what an evaluator gives, and how it reads and splices an SAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.backend import ModelBackend
from saecore.sae import SAE


@attrs.frozen
class Figure:
    """One number and what it rests on."""

    value: float
    tokens: int
    """Tokens it was measured on."""


Figures = Mapping[str, Figure]
Evaluator = Callable[[SAE, ModelBackend, Tensor], Figures]
"""(sae, backend, tokens `[n, T]`) -> figures by name."""


@attrs.frozen
class Reading:
    """Where an SAE reads, from its metadata: hook, head, positions, tokens left out."""

    hook: str
    head: int | None
    positions: slice
    exclude: tuple[int, ...]

    @classmethod
    def of(cls, sae: SAE, backend: ModelBackend) -> Reading:
        """The reading that the SAE's metadata describes."""
        from saecore.data.tokens import special_tokens

        meta = sae.cfg.metadata
        excluded = meta.get("exclude_special_tokens") or ()
        if excluded is True:
            excluded = tuple(sorted(set(special_tokens(backend.tokenizer).values())))
        positions = slice(*(meta.get("seqpos_slice") or (None,)))
        return cls(sae.cfg.hook_name, meta.get("hook_head_index"), positions, tuple(excluded))

    def used(self, tokens: Tensor) -> Tensor:
        """Which tokens `[B, T]` the SAE reads, bool."""
        used = torch.zeros_like(tokens, dtype=torch.bool)
        used[:, self.positions] = True
        for token in self.exclude:
            used &= tokens != token
        return used

    def read(self, value: Tensor) -> Tensor:
        """Activations as the SAE takes them `[B, T, d_in]`."""
        if value.dim() == 4:
            return value.flatten(2) if self.head is None else value[:, :, self.head]
        return value

    def write(self, value: Tensor, new: Tensor, used: Tensor) -> Tensor:
        """`value` with the activations replaced by `new [B, T, d_in]` where `used [B, T]`."""
        result = value.clone()
        new = new.to(value.dtype)
        if value.dim() == 4 and self.head is not None:
            part = result[:, :, self.head]
            part[used] = new[used]
            return result
        result[used] = new.reshape(value.shape)[used]
        return result


def batches(tokens: Tensor, size: int) -> Iterator[Tensor]:
    """Contexts `[n, T]` in batches."""
    yield from tokens.split(size)


def activations(
    sae: SAE, backend: ModelBackend, tokens: Tensor, batch_size: int
) -> Iterator[Tensor]:
    """The activations that an SAE reads, batch by batch `[N, d_in]`.

    Args:
        sae: the SAE; its metadata says where the model is read.
        backend: the language model.
        tokens: contexts `[n, T]`.
        batch_size: contexts in a batch.
    """
    reading = Reading.of(sae, backend)
    for part in batches(tokens, batch_size):
        used = reading.used(part)
        value = reading.read(backend.activations(part, [reading.hook])[reading.hook])
        yield value[used.to(value.device)]


def evaluate(
    sae: SAE, backend: ModelBackend, tokens: Tensor, evaluators: Mapping[str, Evaluator]
) -> dict[str, dict[str, Any]]:
    """Run evaluators; the result is what evaluation.json holds.

    Args:
        sae: an SAE that takes raw activations; its metadata says where.
        backend: the language model.
        tokens: held-out contexts `[n, T]`.
        evaluators: by name.
    """
    with torch.no_grad():
        return {
            name: {key: attrs.asdict(one) for key, one in run(sae, backend, tokens).items()}
            for name, run in evaluators.items()
        }
