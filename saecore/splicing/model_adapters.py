"""Adapters for the models that SAEs are spliced into: transformers, TransformerLens' bridge."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Protocol

import torch
import transformers
from torch import Tensor, nn

from saecore.errors import ModelError
from saecore.models.hook_tables import unknown_hook
from saecore.models.huggingface import logits_of
from saecore.models.module_hooks import ModuleHooks
from saecore.models.read_state import read_state
from saecore.splicing.hook_points import HookFn
from saecore.storage.remote_code import remote_code_allowed

Remove = Callable[[], None]
Begin = Callable[[Tensor, int], None]
"""Called with the tokens `[B, T]` of a forward pass and the number of cached tokens before them."""


class ModelAdapter(Protocol):
    """What splicing needs of a model; it leaves the model's settings and gradients unchanged."""

    name: str
    model: Any

    @property
    def convention(self) -> str:
        """Raw or processed; see `ModelBackend`."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer.

        Raises:
            ModelError: the model has none.
        """
        ...

    def attach(self, hook: str, function: HookFn) -> Remove:
        """Call a function with the activation at a hook in every later forward pass.

        Returns:
            A function that detaches it.

        Raises:
            ModelError: the model has no such hook.
        """
        ...

    def logits(self, tokens: Tensor, **inputs: Any) -> Tensor:
        """Logits `[B, T, vocab]`."""
        ...


class TransformersAdapter:
    """A transformers model.

    Args:
        model: the model.
        name: its name.
        tokenizer: its tokenizer; default: that saved with the model.
        reading: whether `logits` runs in the state of `read_state`, as a backend's calls do.
    """

    convention = "raw"

    def __init__(self, model: Any, name: str, tokenizer: Any = None, reading: bool = False) -> None:
        self.model, self.name, self._tokenizer = model, name, tokenizer
        self._reading = reading
        self._hooks = ModuleHooks(model, name)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer given at construction, or the one saved with the model."""
        if self._tokenizer is None:
            source, cause = self.model.name_or_path, None
            options = {"trust_remote_code": remote_code_allowed()}
            try:
                if source:
                    self._tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
            except (OSError, ValueError) as error:
                cause = error
            if self._tokenizer is None:
                raise ModelError(
                    "model: an SAE excludes special tokens, and there is no tokenizer where "
                    f"{self.name} was loaded from; instead of the model, pass "
                    "saecore.models.huggingface.HuggingFaceBackend(model, tokenizer, name, {})"
                ) from cause
        return self._tokenizer

    def attach(self, hook: str, function: HookFn) -> Remove:
        """See `ModelAdapter.attach`."""
        remove: Remove = self._hooks.attach(hook, function).remove
        return remove

    def logits(self, tokens: Tensor, **inputs: Any) -> Tensor:
        """See `ModelAdapter.logits`."""
        with read_state(self.model) if self._reading else nullcontext():
            output = self.model(input_ids=tokens.to(self.model.device), **inputs)
        return logits_of(output, self.name)


class BridgeAdapter:
    """TransformerLens' bridge.

    Args:
        bridge: the bridge.
        name: its name.
        reading: whether `logits` runs in the state of `read_state`, as a backend's calls do.
    """

    def __init__(self, bridge: Any, name: str, reading: bool = False) -> None:
        self.model, self.name, self._reading = bridge, name, reading

    @property
    def convention(self) -> str:
        """Processed in compatibility mode, which changes the weights."""
        return "processed" if self.model.compatibility_mode else "raw"

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the bridge."""
        if self.model.tokenizer is None:
            raise ModelError(
                "model: an SAE excludes special tokens, and the bridge has no tokenizer; pass one "
                "to boot_transformers"
            )
        return self.model.tokenizer

    def attach(self, hook: str, function: HookFn) -> Remove:
        """See `ModelAdapter.attach`."""
        points = self.model.hook_dict
        if hook not in points:
            raise unknown_hook(self.name, hook, [*points])
        point = points[hook]
        try:
            self.model.check_hooks_to_add(point, hook, function)
        except ValueError as error:
            raise ModelError(f"hook: {error}") from error
        handle = point.add_hook(lambda value, hook: function(value), is_permanent=True)

        def remove() -> None:
            handle.hook.remove()
            point.fwd_hooks[:] = [other for other in point.fwd_hooks if other is not handle]

        return remove

    def logits(self, tokens: Tensor, **inputs: Any) -> Tensor:
        """See `ModelAdapter.logits`."""
        with read_state(self.model) if self._reading else nullcontext():
            logits: Tensor = self.model(tokens, **inputs)
        return logits


def adapter_of(model: Any) -> ModelAdapter:
    """The adapter for a model.

    Args:
        model: a transformers model, a TransformerLens bridge, or a backend of either.

    Raises:
        ModelError: it is something else.
    """
    inner, name = model, getattr(model, "name", None)
    if not isinstance(model, nn.Module) and isinstance(getattr(model, "model", None), nn.Module):
        inner = model.model
    if isinstance(inner, transformers.PreTrainedModel):
        tokenizer = model.tokenizer if inner is not model else None
        return TransformersAdapter(
            inner,
            name or inner.name_or_path or type(inner).__name__,
            tokenizer,
            reading=inner is not model,
        )
    if "transformer_lens" in sys.modules:
        from transformer_lens.model_bridge import TransformerBridge

        if isinstance(inner, TransformerBridge):
            backend_name = name if inner is not model else None
            return BridgeAdapter(
                inner, backend_name or inner.cfg.model_name, reading=inner is not model
            )
    raise ModelError(
        "model: expected a transformers model, a TransformerLens bridge or a backend of one, got "
        f"{type(model).__name__}"
    )


def on_forward(model: nn.Module, begin: Begin) -> Remove:
    """Call a function at the start of every forward pass of a transformers model."""

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = args[0] if args else kwargs.get("input_ids")
        past = kwargs.get("past_key_values")
        seen = 0 if past is None else int(past.get_seq_length())
        if not isinstance(tokens, Tensor) or tokens.is_floating_point():
            tensor = next((value for value in kwargs.values() if isinstance(value, Tensor)), None)
            shape = (1, 1) if tensor is None else tensor.shape[:2]
            tokens = torch.full(shape, -1)  # embeddings: count none as a special token
        begin(tokens, seen)

    return model.register_forward_pre_hook(before, with_kwargs=True).remove
