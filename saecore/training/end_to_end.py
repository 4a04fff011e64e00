"""Training through the language model: the model's loss instead of the squared error.

The SAE's reconstruction replaces the activations, the forward pass continues to the logits, and
the gradient flows back the same way (Braun et al. 2024, arXiv 2405.12241).
"""

from __future__ import annotations

from typing import Literal

import attrs
from torch import Tensor
from torch.nn import functional

from saecore.core.model import ModelBackend, Replace


@attrs.frozen(eq=False, kw_only=True)
class ModelLoss:
    """Loss of the model, in nats per token, with reconstructions instead of activations.

    Either cross-entropy of the next token ("ce") or KL divergence from the prediction of the
    unmodified model ("kl").
    """

    backend: ModelBackend
    hooks: tuple[str, ...]
    """Hooks of the reconstructions; several hooks are concatenated in `x_hat`."""
    kind: Literal["ce", "kl"]
    context_size: int

    def __call__(self, x_hat: Tensor, tokens: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            x_hat: reconstructions of raw activations `[B * T, d]`.
            tokens: their token ids `[B * T]`.
        """
        contexts = tokens.view(-1, self.context_size)  # [B, T]
        per_hook = x_hat.view(*contexts.shape, len(self.hooks), -1)

        def replacement(number: int) -> Replace:
            return lambda value: per_hook[:, :, number].reshape(value.shape)

        replace = {hook: replacement(number) for number, hook in enumerate(self.hooks)}
        spliced = self.backend.run_with(contexts, replace, gradients=True).float()
        if self.kind == "ce":
            targets = contexts[:, 1:].to(spliced.device)
            return functional.cross_entropy(spliced[:, :-1].flatten(0, 1), targets.flatten())
        clean = self.backend.run_with(contexts, {}).float().log_softmax(-1)
        divergence = functional.kl_div(
            spliced.log_softmax(-1), clean, log_target=True, reduction="none"
        )
        return divergence.sum(-1).mean()
