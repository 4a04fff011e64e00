"""Find what a plugin's class does wrong when it is built: the line, and what to change."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

HOME = str(Path(__file__).resolve().parents[1])
"""The folder of saecore's own code."""


def place(target: object) -> str:
    """Where a class or function is written, ` (file:line)`; "" if that is unknown."""
    try:
        file, (_, line) = inspect.getsourcefile(target), inspect.getsourcelines(target)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
    return f" ({file}:{line})"


def describe(error: Exception, name: str) -> str:
    """Describe an exception that a plugin raised: the line of its code, and a remedy if known.

    Args:
        error: the exception.
        name: the component's name.
    """
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [
        frame
        for frame in frames
        if not frame.filename.startswith(HOME) and "site-packages" not in frame.filename
    ]
    where = f" ({foreign[-1].filename}:{foreign[-1].lineno})" if foreign else ""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}{f': {lines[0]}' if lines else ''}{where}"
    if "has no attribute 'architecture'" in str(error):
        return f"{text}; {architecture_remedy(name)}"
    if "before Module.__init__() call" in str(error):
        return f"{text}; {INIT_REMEDY}"
    return text


INIT_REMEDY = "its __init__ must first call super().__init__ with the arguments it gets"


def architecture_remedy(name: str) -> str:
    """What an SAE class without a name must set."""
    return (
        f'a subclass of SAE sets `architecture`, the name in its Component: architecture = "{name}"'
    )


def problem_of_defaults(config: type[Any]) -> str | None:
    """A default that the field's own validator refuses; None if there is none."""
    for field in attrs.fields(config):
        fixed = field.default is not attrs.NOTHING and not hasattr(field.default, "takes_self")
        if field.validator is None or not fixed:
            continue
        try:
            field.validator(None, field, field.default)
        except ValueError as error:
            return (
                f"{config.__name__}.{field.name}{place(config)}: its validator refuses its "
                f"default: {error}; change one of the two"
            )
    return None


def problem_of_class(kind: str, name: str, builder: Callable[..., Any]) -> str | None:
    """What is missing from a class before it is built; None if nothing is."""
    if kind == "architecture" and _is_module(builder) and not hasattr(builder, "architecture"):
        return f"{builder.__qualname__}{place(builder)}: {architecture_remedy(name)}"
    return None


def problem_of_module(kind: str, built: Any) -> str | None:
    """What is wrong with a torch module that a plugin has built; None if nothing is."""
    cls = type(built)
    if not _is_module(cls):
        return None
    missing = "_parameters" not in vars(built)
    if missing or (kind == "architecture" and "cfg" not in vars(built)):
        return f"{cls.__qualname__}{place(cls.__init__)}: {INIT_REMEDY}"
    for path, owner in _plain_tensors(built):
        return (
            f"{cls.__qualname__}{place(type(owner).__init__)}: {path} is a tensor that is neither "
            "a Parameter nor a buffer, so it is neither moved nor saved; use "
            f'self.register_buffer("{path.rpartition(".")[2]}", …), or torch.nn.Parameter if it is '
            "trained"
        )
    return None


def _is_module(cls: object) -> bool:
    torch = sys.modules.get("torch")  # without it, nothing is a module
    return torch is not None and isinstance(cls, type) and issubclass(cls, torch.nn.Module)


def _plain_tensors(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path and owner of every tensor that is an ordinary attribute."""
    import torch

    for path, owner in module.named_modules():
        for name, value in vars(owner).items():
            if isinstance(value, torch.Tensor):
                yield f"{path}.{name}" if path else name, owner
