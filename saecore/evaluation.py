"""Figures on held-out text: what an evaluator gives, and how it reads and splices an SAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import attrs
import torch
from torch import Tensor

from saecore.backend import ModelBackend, Replace
from saecore.codes import Codes
from saecore.data.source import OwnActivations
from saecore.figures import Figure, Figures, Measured, NotApplicable, Vector
from saecore.sae import SAE
from saecore.site import Site

__all__ = ["Figure", "Figures", "Measured", "NotApplicable", "Vector"]

ROWS = 128
"""Rows of a stream that count as one context."""


Origin = ModelBackend | OwnActivations
"""Where activations come from: a language model, or a dataset that gives them."""
Evaluator = Callable[[SAE, Any, Any], Figures]
"""(sae, origin, held_out) -> figures by name.

One that `needs` a model (see `Component`) gets the backend and held-out contexts `[n, T]`; one
that needs the truth gets the dataset's held-out `TrueFeatures` and a number of rows; one that
needs activations gets either, and reads them with `held_out_parts`; one that needs weights gets
whatever there is, and leaves it alone. It raises `NotApplicable` where it cannot measure anything.
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


@attrs.frozen(eq=False)
class Part:
    """Held-out activations of some contexts."""

    inputs: Tensor
    """What the SAE reads `[N, d_in]`, or `[N, hooks, d]` where there are several hooks."""
    targets: Tensor
    """What it is to reconstruct, likewise."""
    context: Tensor
    """The number of each row's context `[N]`; of a stream, `ROWS` rows are one."""
    whole: Tensor | None = None
    """The contexts that the inputs are of `[B, T, d_in]`, for an SAE that reads contexts."""
    used: Tensor | None = None
    """Which of their tokens the inputs are `[B, T]`."""

    def codes(self, sae: SAE) -> Codes:
        """Features of the inputs."""
        device = sae.W_dec.device
        if self.whole is None or self.used is None:
            return sae.encode_sparse(self.inputs.to(device).float())
        used = self.used.to(device).flatten()
        return sae.encode_sparse(self.whole.to(device).float()).take(used)

    def reconstruction(self, sae: SAE) -> Tensor:
        """Reconstructions of the inputs `[N, d_out]`, in float32."""
        device = sae.W_dec.device
        if self.whole is None or self.used is None:
            flat: Tensor = sae(self.inputs.to(device).float()).float().flatten(1)
            return flat
        contexts: Tensor = sae(self.whole.to(device).float()).float()
        return contexts[self.used.to(device)]


def held_out_parts(
    sae: SAE, origin: Origin, held_out: Tensor | int, batch_size: int
) -> Iterator[Part]:
    """The held-out activations that an SAE reads and those it is to reconstruct, by batches.

    Args:
        sae: the SAE; its metadata says where a model is read.
        origin: a language model, or the held-out stream of a dataset.
        held_out: contexts `[n, T]` for the model, or a number of rows of the stream.
        batch_size: contexts (or times `ROWS` rows) in a batch.

    Raises:
        NotApplicable: the SAE reads contexts, and a stream has none.
    """
    if isinstance(held_out, int):
        if sae.reads_contexts:
            raise NotApplicable(
                f"{sae.architecture} reads contexts, and the dataset gives rows without them"
            )
        stream = cast(OwnActivations, origin)
        stream.seek(0)
        for start in range(0, held_out, ROWS * batch_size):
            batch = stream.next(min(ROWS * batch_size, held_out - start))
            numbers = torch.arange(start, start + len(batch.inputs)) // ROWS
            yield Part(batch.inputs, batch.targets, numbers)
        return
    backend, first = cast(ModelBackend, origin), 0
    reading = Reading.of(sae, backend)
    for tokens in batches(held_out, batch_size):
        used = reading.used(tokens)
        inputs, targets = reading.activations(backend, tokens)
        kept = used.to(inputs.device)
        numbers = (first + torch.arange(len(tokens)))[:, None].expand_as(tokens)[used.cpu()]
        contexts = (inputs, kept) if sae.reads_contexts else (None, None)
        yield Part(inputs[kept], targets[kept], numbers, *contexts)
        first += len(tokens)


def activations(
    sae: SAE, origin: Origin, held_out: Tensor | int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of `held_out_parts` alone."""
    for part in held_out_parts(sae, origin, held_out, batch_size):
        yield part.inputs, part.targets


def measure(
    sae: SAE, origin: Origin, held_out: Tensor | int, evaluators: Mapping[str, Evaluator]
) -> Measured:
    """Run evaluators.

    Args:
        sae: an SAE that takes raw activations; its metadata says where.
        origin: the language model, or the held-out stream of a dataset that gives activations.
        held_out: held-out contexts `[n, T]`, or a number of rows of the stream.
        evaluators: by name.
    """
    result = Measured()
    for name, run in evaluators.items():
        try:
            with torch.no_grad():
                found = run(sae, origin, held_out)
        except NotApplicable as reason:
            found, result.skipped[name] = {}, str(reason)
        result.figures[name] = {k: one for k, one in found.items() if isinstance(one, Figure)}
        result.vectors[name] = {k: one for k, one in found.items() if isinstance(one, Vector)}
    return result


def evaluate(
    sae: SAE, origin: Origin, held_out: Tensor | int, evaluators: Mapping[str, Evaluator]
) -> dict[str, dict[str, Any]]:
    """The numbers that `measure` finds, as evaluation.json holds them."""
    return measure(sae, origin, held_out, evaluators).tables()
