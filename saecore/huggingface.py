"""A Hugging Face model as a `ModelBackend`: forward hooks that stop after the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from saecore.backend import Replace
from saecore.errors import ModelError
from saecore.places import Places

PROBE = 7
"""Tokens of the forward pass that finds a hook's sizes; no usual number of heads, so that a
tensor with heads where tokens belong is seen."""


class StopForward(Exception):  # noqa: N818 (not an error)
    """Everything asked for has been seen."""


class HuggingFaceBackend:
    """A model from transformers, causal or encoder, in evaluation mode, without gradients.

    Args:
        model: the model, already on its device.
        tokenizer: its tokenizer.
        name: the name to record with SAEs.
        identity: what was loaded, to record with runs.
    """

    convention = "raw"

    def __init__(self, model: Any, tokenizer: Any, name: str, identity: Mapping[str, Any]) -> None:
        self.model: nn.Module = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name, self.identity = name, {**identity, "convention": self.convention}
        config = model.config
        config.pad_token_id = None  # contexts are packed, never padded: no mask is needed
        for one in (config, config.get_text_config()):
            one.use_cache = False  # as an argument of forward, not every model takes it
        self.vocab_size, self.max_context = token_limits(model)
        self.device = next(model.parameters()).device
        self._places = Places(model, name)
        self._names = self._places.names
        self._sizes: dict[str, tuple[int, ...]] = {}

    @property
    def unembed(self) -> Tensor | None:
        """The head's matrix; see `ModelBackend.unembed`."""
        head = self.model.get_output_embeddings()  # type: ignore[operator]
        return None if head is None else head.weight.t()

    def d(self, hook: str) -> tuple[int, ...]:
        """Sizes of one activation; see `ModelBackend.d`."""
        if hook not in self._sizes:
            tokens = torch.zeros(1, PROBE, dtype=torch.int64)
            self._sizes[hook] = tuple(self.activations(tokens, [hook])[hook].shape[2:])
        return self._sizes[hook]

    @torch.no_grad()
    def activations(self, tokens: Tensor, hooks: Sequence[str]) -> dict[str, Tensor]:
        """Activations of some hooks; see `ModelBackend.activations`."""
        found: dict[str, Tensor] = {}
        wanted = dict.fromkeys(hooks)

        def keep(hook: str) -> Callable[[Tensor], None]:
            def see(value: Tensor) -> None:
                found[hook] = per_token(value, tokens, hook)
                if len(found) == len(wanted):
                    raise StopForward

            return see

        with ExitStack() as stack:
            for hook in wanted:
                stack.enter_context(self._places.attach(hook, keep(hook)))
            try:
                self.model(input_ids=tokens.to(self.device))
            except StopForward:
                return found
        raise not_reached(self.name, wanted, found)

    def run_with(
        self, tokens: Tensor, replace: Mapping[str, Replace], gradients: bool = False
    ) -> Tensor:
        """Logits with replaced activations; see `ModelBackend.run_with`."""
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(gradients))
            for hook, function in replace.items():
                stack.enter_context(self._places.attach(hook, function))
            output = self.model(input_ids=tokens.to(self.device))
        return logits_of(output, self.name)


def token_limits(model: Any) -> tuple[int, int | None]:
    """Rows of a transformers model's embedding, and its longest context if it has a limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(model.get_input_embeddings().weight.shape[0]), None if limit is None else int(limit)


def per_token(value: object, tokens: Tensor, hook: str) -> Tensor:
    """A module's tensor as one activation per token, `[B, T, …]`.

    Raises:
        ModelError: it is not a tensor, or has other leading dimensions.
    """
    if isinstance(value, Tensor) and value.ndim > 2 and value.shape[1] == tokens.shape[1]:
        if value.shape[0] == 1 != tokens.shape[0]:  # position embeddings: the same in every row
            value = value.expand(len(tokens), -1, *value.shape[2:])
        if value.shape[0] == tokens.shape[0]:
            return value
    got = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise ModelError(
        f"model.hook: {hook!r} gives {got} for {list(tokens.shape)} tokens; expected one vector a "
        "token, as the residual stream, attention or MLP have"
    )


def not_reached(model: str, hooks: Iterable[str], found: Iterable[str]) -> ModelError:
    """The error for hooks that exist and that no forward pass comes by."""
    missing = sorted(set(hooks) - set(found))
    return ModelError(
        f"model.hook: {missing[0]!r} exists in {model}, but its forward never comes by; name the "
        "module around it or another hook"
    )


def logits_of(output: Any, model: str) -> Tensor:
    """The logits in a model's output.

    Raises:
        ModelError: the model has no language-model head.
    """
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"model.name: {model} has no language-model head, so it gives no logits; leave out "
            'evaluators that need them ([[evaluator]] type = "reconstruction" does not)'
        )
    return logits
