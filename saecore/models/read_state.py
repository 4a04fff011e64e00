"""The state in which a model is read: set for one forward pass, and put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn

_ABSENT = object()


class Suspendable(Protocol):
    """Something in a model that can be turned off, such as a spliced SAE."""

    active: bool


_attached: WeakKeyDictionary[nn.Module, list[Suspendable]] = WeakKeyDictionary()


def register(model: nn.Module, part: Suspendable) -> Callable[[], None]:
    """Record something that changes a model's activations, so that `suspended` turns it off.

    Returns:
        A function that removes the record.
    """
    parts = _attached.setdefault(model_behind(model), [])
    parts.append(part)

    def remove() -> None:
        parts[:] = [other for other in parts if other is not part]

    return remove


@contextmanager
def suspended(model: nn.Module) -> Iterator[None]:
    """Run a model without the SAEs that are in it."""
    parts = [part for part in _attached.get(model_behind(model), ()) if part.active]
    try:
        for part in parts:
            part.active = False
        yield
    finally:
        for part in parts:
            part.active = True


def model_behind(model: nn.Module) -> nn.Module:
    """The transformers model behind TransformerLens' bridge; any other model itself."""
    inner: nn.Module = getattr(model, "original_model", model)
    return inner


@contextmanager
def read_state(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode, without gradients of parameters, caches and padding.

    Mode, gradients and configuration are put back afterwards.

    Args:
        model: a transformers model or TransformerLens' bridge.
    """
    with ExitStack() as stack:
        stack.enter_context(_evaluation_mode(model))
        stack.enter_context(_configured(model_behind(model).config))
        if torch.is_grad_enabled():
            stack.enter_context(_frozen(model))
        yield


def set_read_state(model: nn.Module) -> None:
    """Put a model into the state of `read_state` for good; for models that saecore loads."""
    for root in _roots(model):
        root.eval().requires_grad_(False)
    for config, key, value in _settings(model_behind(model).config):
        setattr(config, key, value)


def _roots(model: nn.Module) -> tuple[nn.Module, ...]:
    return tuple(dict.fromkeys((model, model_behind(model))))


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set all modules to evaluation mode; each may have had its own mode before."""
    roots = _roots(model)
    modes = {module: module.training for root in roots for module in root.modules()}
    if not any(modes.values()):
        yield
        return
    try:
        for root in roots:
            root.eval()
        yield
    finally:
        for root in roots:
            root.train(modes[root])
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def _configured(config: Any) -> Iterator[None]:
    before = []
    try:
        for part, key, value in _settings(config):
            old = getattr(part, key, _ABSENT)
            if old is not value:
                before.append((part, key, old))
                setattr(part, key, value)
        yield
    finally:
        for part, key, old in reversed(before):
            delattr(part, key) if old is _ABSENT else setattr(part, key, old)


def _settings(config: Any) -> tuple[tuple[Any, str, Any], ...]:
    """Configuration, key and value of each setting."""
    return (
        (config, "pad_token_id", None),  # contexts are packed, never padded: no mask is needed
        (config, "use_cache", False),  # not every model's forward takes it as an argument
        (config.get_text_config(), "use_cache", False),
    )
