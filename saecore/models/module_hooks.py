"""The hooks of a transformers model: finding them and attaching functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from saecore.models.hook_tables import ModuleHook, hook_names, module_hook, unknown_hook


class ModuleHooks:
    """Finds and attaches hooks by TransformerLens' names or by module paths.

    Args:
        model: a transformers model; it is not changed.
        name: its name, for errors.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.name, self._kind = name, str(model.config.model_type)
        base = model.base_model_prefix
        self.names = hook_names(model.config, base if hasattr(model, base) else "")
        """TransformerLens' names of the model's hooks."""
        self._modules = {path: module for path, module in model.named_modules() if path}

    def find(self, hook: str) -> ModuleHook:
        """The module of a hook, and which of its tensors.

        Raises:
            ModelError: the model has neither such a hook nor such a module.
        """
        location = self.names.get(hook) or module_hook(hook)
        if location.path not in self._modules:
            raise unknown_hook(self.name, hook, [*self.names], [*self._modules], self._kind)
        return location

    def attach(self, hook: str, function: Callable[[Tensor], Tensor | None]) -> Any:
        """Call a function with the hook's activation in every forward pass.

        Args:
            hook: TransformerLens' name or a module path.
            function: receives the activation; a tensor that it returns replaces the activation.

        Returns:
            A handle with `remove()`, which is also a context manager.

        Raises:
            ModelError: there is no such hook.
        """
        location = self.find(hook)

        def on_tensor(value: Tensor) -> Tensor | None:
            new = function(location.read(value))
            return None if new is None else location.write(value, new)

        return _register(self._modules[location.path], location.side, on_tensor)


def _register(
    module: nn.Module, side: Literal["in", "out"], function: Callable[[Tensor], Tensor | None]
) -> Any:
    """Call a function with a module's first input or output tensor; its result replaces it."""
    if side == "in":

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                new = function(args[0])
                return None if new is None else ((new, *args[1:]), kwargs)
            key = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
            new = function(kwargs[key])
            return None if new is None else (args, {**kwargs, key: new})

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        is_tuple = isinstance(output, tuple)
        new = function(output[0] if is_tuple else output)
        return None if new is None else ((new, *output[1:]) if is_tuple else new)

    return module.register_forward_hook(after)
