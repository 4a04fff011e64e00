"""The hooks of a transformers model: where they are, and functions called there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from saecore.hook_names import Place, hook_names, module_place, unknown_hook


class Places:
    """Finds the hooks of a model, by TransformerLens' names or by module paths.

    Args:
        model: a transformers model; it stays as it is.
        name: its name, for messages.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.name, self._kind = name, str(model.config.model_type)
        base = model.base_model_prefix
        self.names = hook_names(model.config, base if hasattr(model, base) else "")
        """TransformerLens' names that the model has."""
        self._modules = {path: module for path, module in model.named_modules() if path}

    def place(self, hook: str) -> Place:
        """Where a hook is.

        Raises:
            ModelError: the model has neither such a hook nor such a module.
        """
        place = self.names.get(hook) or module_place(hook)
        if place.path not in self._modules:
            raise unknown_hook(self.name, hook, [*self.names], [*self._modules], self._kind)
        return place

    def attach(self, hook: str, function: Callable[[Tensor], Tensor | None]) -> Any:
        """Call a function with the activation in every forward pass; what it returns replaces it.

        Returns a handle with `remove()`, which is a context too.

        Raises:
            ModelError: there is no such hook.
        """
        place = self.place(hook)

        def see(value: Tensor) -> Tensor | None:
            new = function(place.read(value))
            return None if new is None else place.write(value, new)

        return _attached(self._modules[place.path], place, see)


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
