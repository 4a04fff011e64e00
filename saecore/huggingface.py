"""A Hugging Face model as a `ModelBackend`: forward hooks that stop after the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from saecore.backend import Replace
from saecore.errors import ModelError
from saecore.hook_names import Place, hook_names, module_place, unknown_hook

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
        self._kind, base = str(config.model_type), model.base_model_prefix
        self._names = hook_names(config, base if hasattr(model, base) else "")
        self._modules = {path: module for path, module in model.named_modules() if path}
        self._sizes: dict[str, tuple[int, ...]] = {}

    def place(self, hook: str) -> Place:
        """Where a hook is.

        Raises:
            ModelError: the model has neither such a hook nor such a module.
        """
        place = self._names.get(hook) or module_place(hook)
        if place.path not in self._modules:
            raise unknown_hook(self.name, hook, [*self._names], [*self._modules], self._kind)
        return place

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
        places = {hook: self.place(hook) for hook in hooks}

        def keep(hook: str, place: Place) -> Callable[[Tensor], None]:
            def see(value: Tensor) -> None:
                found[hook] = per_token(place.read(value), tokens, hook)
                if len(found) == len(places):
                    raise StopForward

            return see

        with ExitStack() as stack:
            for hook, place in places.items():
                stack.enter_context(_attached(self._modules[place.path], place, keep(hook, place)))
            try:
                self.model(input_ids=tokens.to(self.device))
            except StopForward:
                return found
        raise not_reached(self.name, places, found)

    def run_with(
        self, tokens: Tensor, replace: Mapping[str, Replace], gradients: bool = False
    ) -> Tensor:
        """Logits with replaced activations; see `ModelBackend.run_with`."""

        def change(place: Place, function: Replace) -> Replace:
            return lambda value: place.write(value, function(place.read(value)))

        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(gradients))
            for hook, function in replace.items():
                place = self.place(hook)
                module = self._modules[place.path]
                stack.enter_context(_attached(module, place, change(place, function)))
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


def _attached(module: nn.Module, place: Place, function: Callable[[Tensor], Tensor | None]) -> Any:
    """A context in which `function` sees the tensor at a place; what it returns replaces it."""
    if place.side == "in":

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                new = function(args[0])
                return None if new is None else ((new, *args[1:]), kwargs)
            key = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
            new = function(kwargs[key])
            return None if new is None else (args, {**kwargs, key: new})

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        several = isinstance(output, tuple)
        new = function(output[0] if several else output)
        return None if new is None else ((new, *output[1:]) if several else new)

    return module.register_forward_hook(after)
