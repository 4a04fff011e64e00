"""A Hugging Face model as a `ModelBackend`: forward hooks that stop after the last one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from saecore.backend import Replace
from saecore.errors import ModelError, nearest
from saecore.hook_names import Place, hook_names, module_place


class _StopForward(Exception):  # noqa: N818 (not an error)
    """Everything asked for has been seen."""


class HuggingFaceBackend:
    """A causal language model from transformers, in evaluation mode, without gradients.

    Args:
        model: the model, already on its device.
        tokenizer: its tokenizer.
        name: the name to record with SAEs.
        identity: what was loaded, to record with runs.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, identity: Mapping[str, Any]) -> None:
        self.model: nn.Module = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name, self.identity = name, dict(identity)
        config = model.config
        config.pad_token_id = None  # contexts are packed, never padded: no mask is needed
        self.n_heads = int(config.num_attention_heads)
        self.vocab_size = int(model.get_input_embeddings().weight.shape[0])
        limit = getattr(config, "max_position_embeddings", None)
        self.max_context: int | None = None if limit is None else int(limit)
        self.device = next(model.parameters()).device
        self._names = hook_names(config.model_type, config.num_hidden_layers)
        self._modules = dict(model.named_modules())
        self._sizes: dict[str, tuple[int, ...]] = {}

    def place(self, hook: str) -> Place:
        """Where a hook is.

        Raises:
            ModelError: the model has neither such a hook nor such a module.
        """
        place = self._names.get(hook) or module_place(hook)
        if place.path not in self._modules:
            known = [*self._names, *(name for name in self._modules if name)]
            layer = next(iter(self._names), "a module path")
            raise ModelError(
                f"model.hook: {self.name} has no hook {hook!r}{nearest(hook, known)} "
                f"({len(self._names)} names such as {layer}; or module paths such as {known[-1]})"
            )
        return place

    def d(self, hook: str) -> tuple[int, ...]:
        """Sizes of one activation; see `ModelBackend.d`."""
        if hook not in self._sizes:
            token = torch.zeros(1, 1, dtype=torch.int64)
            self._sizes[hook] = tuple(self.activations(token, [hook])[hook].shape[2:])
        return self._sizes[hook]

    @torch.no_grad()
    def activations(self, tokens: Tensor, hooks: Sequence[str]) -> dict[str, Tensor]:
        """Activations of some hooks; see `ModelBackend.activations`."""
        found: dict[str, Tensor] = {}
        places = {hook: self.place(hook) for hook in hooks}

        def keep(hook: str, place: Place) -> Callable[[Tensor], None]:
            def see(value: Tensor) -> None:
                found[hook] = place.read(value, self.n_heads)
                if len(found) == len(places):
                    raise _StopForward

            return see

        with ExitStack() as stack:
            for hook, place in places.items():
                stack.enter_context(_attached(self._modules[place.path], place, keep(hook, place)))
            try:
                self.model(input_ids=tokens.to(self.device), use_cache=False)
            except _StopForward:
                return found
        missing = sorted(set(places) - set(found))
        raise ModelError(f"model.hook: {missing[0]!r} was not reached in {self.name}'s forward")

    @torch.no_grad()
    def run_with(self, tokens: Tensor, replace: Mapping[str, Replace]) -> Tensor:
        """Logits with replaced activations; see `ModelBackend.run_with`."""

        def change(place: Place, function: Replace) -> Replace:
            return lambda value: place.write(value, function(place.read(value, self.n_heads)))

        with ExitStack() as stack:
            for hook, function in replace.items():
                place = self.place(hook)
                module = self._modules[place.path]
                stack.enter_context(_attached(module, place, change(place, function)))
            logits: Tensor = self.model(input_ids=tokens.to(self.device), use_cache=False).logits
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
