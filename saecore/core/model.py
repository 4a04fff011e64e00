"""The interface of language models: read and replace activations at hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

Replace = Callable[[Tensor], Tensor]


class ModelBackend(Protocol):
    """A language model whose activations can be read and replaced."""

    name: str
    """The model's name, as recorded with the SAE."""
    identity: Mapping[str, Any]
    """What was loaded, recorded with every run: name, revision, dtype, …"""
    convention: str
    """ "raw": the model's own activations; "processed": norms folded, writing weights centered."""

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        ...

    @property
    def max_context(self) -> int | None:
        """The longest context that the model accepts, if it has a limit."""
        ...

    @property
    def unembed(self) -> Tensor | None:
        """The matrix `[d, vocab]` from the normalized residual stream to logits; None for a model
        without a language-model head.
        """
        ...

    def d(self, hook: str) -> tuple[int, ...]:
        """Shape of one activation: `(d,)`, or `(heads, d_head)` at hook_z, hook_q, hook_k, hook_v.

        Raises:
            ModelError: the hook is unknown; the message suggests the nearest names.
        """
        ...

    def activations(self, tokens: Tensor, hooks: Sequence[str]) -> dict[str, Tensor]:
        """Activations `[B, T, *d(hook)]` for `tokens [B, T]`; nothing runs after the last hook.

        They are what the model had at the hooks, even if it writes into its tensors later. The
        model is read in evaluation mode and without SAEs that are in it, and is left as it was.

        Raises:
            ModelError: a hook is unknown.
        """
        ...

    def run_with(
        self, tokens: Tensor, replace: Mapping[str, Replace], gradients: bool = False
    ) -> Tensor:
        """Logits `[B, T, vocab]` of a forward pass that replaces the activations of some hooks.

        A function may keep or overwrite the activation that it gets, and may keep the tensor that
        it returns. Encoder models return masked-language-model logits. With `gradients` the logits
        are differentiable with respect to the replacements.

        Raises:
            ModelError: a hook is unknown, or the model has no language-model head.
        """
        ...


def layer_of(hook_name: str) -> int | None:
    """The layer in a hook's name, the first number between dots; None if there is none."""
    return next((int(part) for part in hook_name.split(".") if part.isdigit()), None)


def vector_size(shape: tuple[int, ...], head: int | None = None) -> int:
    """Size of the vector that an SAE reads from an activation of this shape.

    Args:
        shape: `ModelBackend.d` of the hook, `(d,)` or `(heads, d_head)`.
        head: the attention head that is read; default: all heads, concatenated.
    """
    return math.prod(shape) if head is None else shape[-1]
