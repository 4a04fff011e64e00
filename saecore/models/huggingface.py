"""A Hugging Face model as a `ModelBackend`; forward passes stop after the last hook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from saecore.core.model import Replace
from saecore.errors import ModelError
from saecore.models.copies import isolated
from saecore.models.module_hooks import ModuleHooks
from saecore.models.read_state import read_state, suspended

PROBE = 7
"""Tokens of the forward pass that finds a hook's shape; an unusual number of heads, so a tensor
whose second dimension is heads, not tokens, is detected."""


class StopForward(Exception):  # noqa: N818 (not an error)
    """Ends a forward pass once every requested hook has run."""


class HuggingFaceBackend:
    """A model from transformers, causal or encoder.

    It is read in evaluation mode, without gradients of its parameters and without the SAEs that
    are spliced into it; after each call the model is as it was before.

    Args:
        model: the model, already on its device.
        tokenizer: its tokenizer.
        name: the name recorded with SAEs.
        identity: what was loaded, recorded with runs.
    """

    convention = "raw"

    def __init__(self, model: Any, tokenizer: Any, name: str, identity: Mapping[str, Any]) -> None:
        self.model: nn.Module = model
        self.tokenizer = tokenizer
        self.name, self.identity = name, {**identity, "convention": self.convention}
        self.vocab_size, self.max_context = token_limits(model)
        self.device = next(model.parameters()).device
        self._hooks = ModuleHooks(model, name)
        self.hook_names = tuple(self._hooks.names)
        """TransformerLens' names of the model's hooks."""
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def unembed(self) -> Tensor | None:
        """The language-model head's matrix; see `ModelBackend.unembed`."""
        head = self.model.get_output_embeddings()  # type: ignore[operator]
        return None if head is None else head.weight.t()

    def d(self, hook: str) -> tuple[int, ...]:
        """Shape of one activation; see `ModelBackend.d`."""
        if hook not in self._shapes:
            tokens = torch.zeros(1, PROBE, dtype=torch.int64)
            self._shapes[hook] = tuple(self.activations(tokens, [hook])[hook].shape[2:])
        return self._shapes[hook]

    @torch.no_grad()
    def activations(self, tokens: Tensor, hooks: Sequence[str]) -> dict[str, Tensor]:
        """Activations of some hooks; see `ModelBackend.activations`."""
        activations: dict[str, Tensor] = {}
        requested = dict.fromkeys(hooks)

        def record(hook: str) -> Callable[[Tensor], None]:
            def function(value: Tensor) -> None:
                activations[hook] = per_token(value, tokens, hook)
                if len(activations) == len(requested):
                    raise StopForward
                activations[hook] = activations[hook].clone()  # the model may overwrite its own

            return function

        with read_state(self.model), suspended(self.model), ExitStack() as stack:
            for hook in requested:
                stack.enter_context(self._hooks.attach(hook, record(hook)))
            try:
                self.model(input_ids=tokens.to(self.device))
            except StopForward:
                return activations
        raise not_reached(self.name, requested, activations)

    def run_with(
        self, tokens: Tensor, replace: Mapping[str, Replace], gradients: bool = False
    ) -> Tensor:
        """Logits with replaced activations; see `ModelBackend.run_with`."""
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(gradients))
            stack.enter_context(read_state(self.model))
            stack.enter_context(suspended(self.model))
            for hook, function in replace.items():
                stack.enter_context(self._hooks.attach(hook, isolated(function)))
            output = self.model(input_ids=tokens.to(self.device))
        return logits_of(output, self.name)


def token_limits(model: Any) -> tuple[int, int | None]:
    """Vocabulary size (rows of the embedding) and longest context of a transformers model.

    The longest context is None without a limit.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(model.get_input_embeddings().weight.shape[0]), None if limit is None else int(limit)


def per_token(value: object, tokens: Tensor, hook: str) -> Tensor:
    """A module's tensor as one activation per token, `[B, T, …]`.

    Raises:
        ModelError: it is not a tensor, or has other leading dimensions.
    """
    if isinstance(value, Tensor) and value.ndim > 2 and value.shape[1] == tokens.shape[1]:
        if value.shape[0] == 1 != tokens.shape[0]:  # position embeddings, shared by all rows
            value = value.expand(len(tokens), -1, *value.shape[2:])
        if value.shape[0] == tokens.shape[0]:
            return value
    got = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise ModelError(
        f"model.hook: {hook!r} gives {got} for {list(tokens.shape)} tokens; expected one vector "
        "per token, as in the residual stream, attention or MLP"
    )


def not_reached(model: str, hooks: Iterable[str], reached: Iterable[str]) -> ModelError:
    """The error for hooks that exist but that the forward pass never reaches."""
    missing = sorted(set(hooks) - set(reached))
    return ModelError(
        f"model.hook: {missing[0]!r} exists in {model}, but the forward pass never reaches it; "
        "name the module around it or another hook"
    )


def logits_of(output: Any, model: str) -> Tensor:
    """The logits in a model's output.

    Raises:
        ModelError: the model has no language-model head.
    """
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"model.name: {model} has no language-model head and gives no logits; leave out "
            'evaluators that need them ([[evaluator]] type = "reconstruction" does not)'
        )
    return logits
