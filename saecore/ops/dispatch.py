"""Which implementation of an operation serves a call.

A backend is a module with any of the functions of `saecore.ops.plain`, under the same names and
with the same arguments, and two that say when to use them:

    available() -> bool                   whether it can run here at all (asked once)
    takes(operation, *tensors) -> bool    whether it can do this call: device, dtype
    pays(operation, *tensors) -> bool     whether it is the faster one for these shapes

The first backend of `BACKENDS` that says yes three times serves; `plain` always does. `tensors`
are, for a selection, the inputs `[N, d_in]` and the encoder `[d_sae, d_in]`; for the others the
values or rows and the matrix, as they are handed over. What a backend takes it may still give to
`plain` itself, for reasons that only show in the data (density, say).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from torch import Tensor

from saecore.ops import plain

BACKENDS = {"cuda": "saecore.ops.cuda", "compiled": "saecore.ops.compiled"}
"""Name and module of each, in the order they are asked; the module is imported on first use."""

_forced: str | None = None


@contextlib.contextmanager
def forced(name: str) -> Iterator[None]:
    """Use one backend wherever it can, however small the work; for tests and measurements.

    What it has no function for, or cannot take (another device, another dtype), `plain` does.

    Args:
        name: "plain", or a name in `BACKENDS`.

    Raises:
        ValueError: there is no such backend, or it cannot run here.
    """
    global _forced
    # Only what is asked for is imported: a backend may bring much with it.
    if name != "plain" and (name not in BACKENDS or _module(name) is None):
        known = ["plain", *(one for one in BACKENDS if _module(one) is not None)]
        raise ValueError(f"no backend {name!r} here (known: {', '.join(known)})")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def chosen(operation: str, *tensors: Tensor) -> str:
    """Name of the backend that serves a call of `operation` with such tensors."""
    for name in BACKENDS if _forced is None else [_forced]:
        module = _module(name) if name in BACKENDS else None
        if module is None or not hasattr(module, operation):
            continue
        if module.takes(operation, *tensors) and (_forced or module.pays(operation, *tensors)):
            return name
    return "plain"


def function(operation: str, *tensors: Tensor) -> Callable[..., Any]:
    """The function that serves a call of `operation` with such tensors."""
    name = chosen(operation, *tensors)
    module = plain if name == "plain" else _module(name)
    found: Callable[..., Any] = getattr(module, operation)
    return found


@functools.cache
def _module(name: str) -> ModuleType | None:
    """The module of a backend; None where it cannot run."""
    try:
        module = importlib.import_module(BACKENDS[name])
    except ImportError:
        return None
    return module if module.available() else None
