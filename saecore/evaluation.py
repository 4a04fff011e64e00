"""Figures on held-out text: what an evaluator gives, and how it reads and splices an SAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import attrs
import torch
from torch import Tensor

from saecore.backend import ModelBackend, Replace
from saecore.data.source import OwnActivations
from saecore.sae import SAE
from saecore.site import Site

ROWS = 128
"""Rows of a stream that count as one context."""


@attrs.frozen
class Figure:
    """One number and what it rests on."""

    value: float
    tokens: int
    """Tokens it was measured on."""


Figures = Mapping[str, Figure]
Origin = ModelBackend | OwnActivations
"""Where activations come from: a language model, or a dataset that gives them."""
Evaluator = Callable[[SAE, Any, Any], Figures]
"""(sae, origin, held_out) -> figures by name.

One that `needs` a model (see `Component`) gets the backend and held-out contexts `[n, T]`; one
that needs the truth gets the dataset's held-out `TrueFeatures` and a number of rows; one that
needs activations gets either, and reads them with `activations`.
"""


class Reading(Site):
    """Where an SAE reads, and what takes the place of the activations there."""

    def activations(self, backend: ModelBackend, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What the SAE reads and what it is to reconstruct, `[B, T, d]` or `[B, T, hooks, d]`."""
        names = tuple(dict.fromkeys((*self.hooks, *self.targets)))
        found = {name: self.read(one) for name, one in backend.activations(tokens, names).items()}

        def together(hooks: tuple[str, ...]) -> Tensor:
            several = len(hooks) > 1
            return torch.stack([found[one] for one in hooks], 2) if several else found[hooks[0]]

        return together(self.hooks), together(self.targets)

    def replacements(
        self, sae: SAE, backend: ModelBackend, tokens: Tensor, used: Tensor
    ) -> dict[str, Replace]:
        """Functions that put reconstructions in the place of activations where `used [B, T]`."""
        if self.hooks == self.targets and len(self.hooks) == 1:

            def spliced(value: Tensor) -> Tensor:
                x = self.read(value).to(sae.W_dec.device)
                return self.write(value, sae(x).to(value.device), used.to(value.device))

            return {self.hooks[0]: spliced}
        # Several places: reconstructions of what the model does by itself.
        x = self.activations(backend, tokens)[0].to(sae.W_dec.device)
        parts = sae(x).unflatten(-1, (len(self.targets), -1)) if x.dim() == 3 else sae(x)

        def at(number: int) -> Replace:
            part = parts[:, :, number]
            return lambda value: self.write(value, part.to(value.device), used.to(value.device))

        return {hook: at(number) for number, hook in enumerate(self.targets)}

    def ablations(self, used: Tensor) -> dict[str, Replace]:
        """Functions that put zeros there."""

        def ablated(value: Tensor) -> Tensor:
            zeros = torch.zeros_like(self.target(value))
            return self.write(value, zeros, used.to(value.device))

        return dict.fromkeys(self.targets, ablated)


def batches(tokens: Tensor, size: int) -> Iterator[Tensor]:
    """Contexts `[n, T]` in batches."""
    yield from tokens.split(size)


def activations(
    sae: SAE, origin: Origin, held_out: Tensor | int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The held-out activations that an SAE reads and those it is to reconstruct, by batches.

    Each is `[N, d]`, or `[N, hooks, d]` where there are several hooks.

    Args:
        sae: the SAE; its metadata says where a model is read.
        origin: a language model, or the held-out stream of a dataset.
        held_out: contexts `[n, T]` for the model, or a number of rows of the stream.
        batch_size: contexts (or times `ROWS` rows) in a batch.
    """
    if isinstance(held_out, int):
        stream = cast(OwnActivations, origin)
        stream.seek(0)
        for start in range(0, held_out, ROWS * batch_size):
            batch = stream.next(min(ROWS * batch_size, held_out - start))
            yield batch.inputs, batch.targets
        return
    backend = cast(ModelBackend, origin)
    reading = Reading.of(sae, backend)
    for part in batches(held_out, batch_size):
        used = reading.used(part)
        inputs, targets = reading.activations(backend, part)
        kept = used.to(inputs.device)
        yield inputs[kept], targets[kept]


def evaluate(
    sae: SAE, origin: Origin, held_out: Tensor | int, evaluators: Mapping[str, Evaluator]
) -> dict[str, dict[str, Any]]:
    """Run evaluators; the result is what evaluation.json holds.

    Args:
        sae: an SAE that takes raw activations; its metadata says where.
        origin: the language model, or the held-out stream of a dataset that gives activations.
        held_out: held-out contexts `[n, T]`, or a number of rows of the stream.
        evaluators: by name.
    """
    with torch.no_grad():
        return {
            name: {key: attrs.asdict(one) for key, one in run(sae, origin, held_out).items()}
            for name, run in evaluators.items()
        }
