"""The language model, as far as saecore needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

Replace = Callable[[Tensor], Tensor]


class ModelBackend(Protocol):
    """A language model whose activations can be read and replaced."""

    name: str
    """The model's name, as recorded with the SAE."""
    identity: Mapping[str, Any]
    """What was loaded, as recorded with every run: name, revision, dtype, …"""
    convention: str
    """ "raw": the model's own activations; "processed": norms folded, writing weights centred."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, a Hugging Face one."""
        ...

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        ...

    @property
    def max_context(self) -> int | None:
        """The longest context the model takes, if it has a limit."""
        ...

    @property
    def unembed(self) -> Tensor | None:
        """The matrix `[d, vocab]` that makes logits of the (normalized) residual stream; None
        for a model without a language-model head.
        """
        ...

    def d(self, hook: str) -> tuple[int, ...]:
        """Sizes of one activation: `(d,)`, or `(heads, d_head)` at hook_z, hook_q, hook_k, hook_v.

        Raises:
            ModelError: there is no such hook; the message lists the nearest.
        """
        ...

    def activations(self, tokens: Tensor, hooks: Sequence[str]) -> dict[str, Tensor]:
        """Activations `[B, T, *d(hook)]` for `tokens [B, T]`; nothing runs after the last hook.

        Raises:
            ModelError: there is no such hook.
        """
        ...

    def run_with(
        self, tokens: Tensor, replace: Mapping[str, Replace], gradients: bool = False
    ) -> Tensor:
        """Logits `[B, T, vocab]` of a forward in which the activations of some hooks are replaced.

        An encoder gives its masked-language-model logits. With `gradients` they are
        differentiable in what the functions return.

        Raises:
            ModelError: there is no such hook, or the model has no language-model head.
        """
        ...
