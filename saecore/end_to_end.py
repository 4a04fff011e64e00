"""Training through the language model: its own loss in place of the squared error.

The SAE's reconstruction takes the place of the activations, the forward goes on to the logits,
and the gradient comes back the same way (Braun et al. 2024, arXiv 2405.12241).
"""

from __future__ import annotations

from typing import Literal

import attrs
from torch import Tensor
from torch.nn import functional

from saecore.backend import ModelBackend, Replace
from saecore.data.buffer import Window
from saecore.errors import DataError
from saecore.step import Batch


class ContextStream(Window):
    """An `ActivationSource` whose batches are whole contexts, in the order of the text.

    A batch is a fill of the window it derives from, unmixed: the model reads it again for the
    loss.
    """

    def seek(self, position: int) -> None:
        """Go on from a position, which is that of a batch."""
        self._position = position

    def next(self, size: int) -> Batch:
        """The next batch; `size` is always that of a fill.

        Raises:
            DataError: the text has ended.
        """
        number, off = divmod(self._position, size)
        if off or size != self.settings.fill_tokens:
            raise DataError(f"batches of whole contexts have {self.settings.fill_tokens} tokens")
        rows = self._run_fill(number)
        if len(rows) < size:
            raise DataError(self._ended())
        self._position += size
        return self._batch(rows)


@attrs.frozen(eq=False)
class ModelLoss:
    """Cross-entropy of the next token ("ce") or KL divergence from the model's own prediction
    ("kl"), in nats per token, with reconstructions in the place of activations.
    """

    backend: ModelBackend
    hooks: tuple[str, ...]
    """Where the reconstructions go; several stand side by side in them."""
    kind: Literal["ce", "kl"]
    context_size: int

    def __call__(self, x_hat: Tensor, tokens: Tensor) -> Tensor:
        """The loss of reconstructions of raw activations `[B * T, d]` for `tokens [B * T]`."""
        contexts = tokens.view(-1, self.context_size)  # [B, T]
        parts = x_hat.view(*contexts.shape, len(self.hooks), -1)

        def at(number: int) -> Replace:
            return lambda value: parts[:, :, number].reshape(value.shape)

        replace = {hook: at(number) for number, hook in enumerate(self.hooks)}
        spliced = self.backend.run_with(contexts, replace, gradients=True).float()
        if self.kind == "ce":
            targets = contexts[:, 1:].to(spliced.device)
            return functional.cross_entropy(spliced[:, :-1].flatten(0, 1), targets.flatten())
        clean = self.backend.run_with(contexts, {}).float().log_softmax(-1)
        other = spliced.log_softmax(-1)
        divergence = functional.kl_div(other, clean, log_target=True, reduction="none")
        return divergence.sum(-1).mean()
