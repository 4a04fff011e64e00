"""Held-out data, read in batches of activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs
import torch
from torch import Tensor

from saecore.core.activation_store import ActivationDataset, SyntheticActivations
from saecore.core.evaluator import HeldOutError
from saecore.core.model import ModelBackend, Replace
from saecore.core.sae import SAE
from saecore.models.hook_site import HookSite
from saecore.ops.codes import Codes

ROWS_PER_CONTEXT = 128
"""Rows of a stream without contexts that are grouped as one context."""


class HookReader(HookSite):
    """Reads an SAE's inputs and targets from a model, and builds replacements for its targets."""

    def activations(self, backend: ModelBackend, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The SAE's inputs and targets for `tokens [B, T]`.

        Returns:
            Inputs and targets, `[B, T, d]` each; `[B, T, hooks, d]` with several hooks.
        """
        activations = backend.activations(tokens, self.all_hooks)
        return self.stack({hook: self.read(value) for hook, value in activations.items()})

    def replacements(
        self, sae: SAE, backend: ModelBackend, tokens: Tensor, used: Tensor
    ) -> dict[str, Replace]:
        """Functions that replace activations by reconstructions where `used [B, T]` is true."""
        if self.hooks == self.targets and len(self.hooks) == 1:

            def spliced(value: Tensor) -> Tensor:
                x = self.read(value).to(sae.W_dec.device)
                return self.write(value, sae(x).to(value.device), used.to(value.device))

            return {self.hooks[0]: spliced}
        # Several hooks: reconstruct from the activations of an undisturbed forward pass.
        x = self.activations(backend, tokens)[0].to(sae.W_dec.device)
        x_hat = sae(x).unflatten(-1, (len(self.targets), -1)) if x.dim() == 3 else sae(x)

        def at(number: int) -> Replace:
            part = x_hat[:, :, number]
            return lambda value: self.write(value, part.to(value.device), used.to(value.device))

        return {hook: at(number) for number, hook in enumerate(self.targets)}

    def ablations(self, used: Tensor) -> dict[str, Replace]:
        """Functions that replace the target activations by zeros where `used [B, T]` is true."""

        def ablated(value: Tensor) -> Tensor:
            zeros = torch.zeros_like(self.target(value))
            return self.write(value, zeros, used.to(value.device))

        return dict.fromkeys(self.targets, ablated)


@attrs.frozen(eq=False, kw_only=True)
class HeldOutBatch:
    """Held-out activations of a few contexts."""

    inputs: Tensor
    """The SAE's inputs `[N, d_in]`; `[N, hooks, d]` with several hooks."""
    targets: Tensor
    """The activations to reconstruct, in the layout of `inputs`."""
    context: Tensor
    """Index of each row's context `[N]`; in a stream, `ROWS_PER_CONTEXT` rows make a context."""
    whole: Tensor | None = None
    """The full contexts `[B, T, d_in]`, if the SAE reads contexts."""
    used: Tensor | None = None
    """Mask of the tokens in `whole` that `inputs` holds `[B, T]`."""

    def codes(self, sae: SAE) -> Codes:
        """Latent activations of the inputs."""
        device = sae.W_dec.device
        if self.whole is None or self.used is None:
            return sae.encode_sparse(self.inputs.to(device).float())
        used = self.used.to(device).flatten()
        return sae.encode_sparse(self.whole.to(device).float()).take(used)

    def reconstruction(self, sae: SAE) -> Tensor:
        """Reconstructions of the targets `[N, d_out]`, in float32."""
        device = sae.W_dec.device
        if self.whole is None or self.used is None:
            flat: Tensor = sae(self.inputs.to(device).float()).float().flatten(1)
            return flat
        contexts: Tensor = sae(self.whole.to(device).float()).float()
        return contexts[self.used.to(device)]


@attrs.frozen(eq=False, kw_only=True)
class HeldOut:
    """Data that an SAE is evaluated on and was not trained on.

    Either a language model with contexts of tokens, or a stream of activations with a number of
    rows. It may also be empty: evaluators of weights need neither.

    Args:
        model: the language model.
        contexts: tokens for the model `[n, T]`.
        stream: the held-out side of a dataset of activations.
        rows: rows of the stream to use.
        record: model, text and size, as results report them.
    """

    _model: ModelBackend | None = None
    _contexts: Tensor | None = None
    _stream: ActivationDataset | None = None
    rows: int = 0
    record: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def provides(self) -> frozenset[str]:
        """What evaluators may require: "weights", "activations", "model", "truth"."""
        if self._model is not None:
            return frozenset({"weights", "activations", "model"})
        if self._stream is None:
            return frozenset({"weights"})
        truth = {"truth"} if hasattr(self._stream, "next_features") else set()
        return frozenset({"weights", "activations", *truth})

    @property
    def model(self) -> ModelBackend:
        """The language model.

        Raises:
            HeldOutError: there is none.
        """
        if self._model is None:
            raise HeldOutError("needs a language model, and this evaluation has none")
        return self._model

    @property
    def contexts(self) -> Tensor:
        """Tokens for the model `[n, T]`.

        Raises:
            HeldOutError: there are none.
        """
        if self._contexts is None:
            raise HeldOutError("needs held-out text, and this evaluation has none")
        return self._contexts

    @property
    def truth(self) -> SyntheticActivations:
        """The stream of activations whose true features are known; read `rows` of it.

        Raises:
            HeldOutError: the features are not known.
        """
        if "truth" not in self.provides:
            raise HeldOutError("needs the true features, which the dataset does not know")
        return cast(SyntheticActivations, self._stream)

    def parts(self, sae: SAE, batch_size: int) -> Iterator[HeldOutBatch]:
        """Read the activations batch by batch.

        Args:
            sae: the SAE; its metadata name the hooks of the model.
            batch_size: contexts per batch; a context of a stream has `ROWS_PER_CONTEXT` rows.

        Raises:
            HeldOutError: there are no activations, or the SAE reads contexts and the stream has
                none.
        """
        if self._stream is None:
            return _from_model(sae, self.model, self.contexts, batch_size)
        if sae.reads_contexts:
            raise HeldOutError(
                f"{sae.architecture} reads contexts, and the dataset gives rows without them"
            )
        return _from_stream(self._stream, self.rows, batch_size)


def _from_model(
    sae: SAE, backend: ModelBackend, contexts: Tensor, batch_size: int
) -> Iterator[HeldOutBatch]:
    reader, first = HookReader.of(sae, backend), 0
    for tokens in contexts.split(batch_size):
        used = reader.used(tokens)
        inputs, targets = reader.activations(backend, tokens)
        mask = used.to(inputs.device)
        numbers = (first + torch.arange(len(tokens)))[:, None].expand_as(tokens)[used.cpu()]
        yield HeldOutBatch(
            inputs=inputs[mask],
            targets=targets[mask],
            context=numbers,
            whole=inputs if sae.reads_contexts else None,
            used=mask if sae.reads_contexts else None,
        )
        first += len(tokens)


def _from_stream(stream: ActivationDataset, rows: int, batch_size: int) -> Iterator[HeldOutBatch]:
    size = ROWS_PER_CONTEXT * batch_size
    stream.seek(0)
    for start in range(0, rows, size):
        batch = stream.next(min(size, rows - start))
        numbers = torch.arange(start, start + len(batch.inputs)) // ROWS_PER_CONTEXT
        yield HeldOutBatch(inputs=batch.inputs, targets=batch.targets, context=numbers)
