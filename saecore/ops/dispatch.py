"""Choose the implementation of an operation for each call.

A backend is a module that implements any of the functions of `saecore.ops.reference`, with the same
names and arguments, and three that say when to use them:

    available() -> bool                      whether it can run at all (called once)
    supports(operation, *tensors) -> bool    whether it supports this call: device, dtype
    is_faster(operation, *tensors) -> bool   whether it is faster for these shapes

The first backend of `BACKENDS` for which all three are true handles the call, otherwise
`reference`. For a selection `tensors` are the inputs `[N, d_in]` and the encoder `[d_sae, d_in]`;
for other operations the values or rows and the matrix. A backend may still delegate a supported
call to `reference`, depending on the data (e.g. density).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from torch import Tensor

BACKENDS = {
    "cuda": "saecore.ops.cuda",
    "cpu": "saecore.ops.cpu",
    "reference": "saecore.ops.reference",
}
"""Name and module of each, in order of preference; modules are imported on first use."""

_forced: str | None = None


@contextlib.contextmanager
def forced(name: str) -> Iterator[None]:
    """Use one backend whenever it supports a call, for tests and benchmarks.

    `reference` handles the calls that it does not support.

    Args:
        name: a name in `BACKENDS`.

    Raises:
        ValueError: the backend is unknown, or cannot run here.
    """
    global _forced
    # Import only the requested backend: it may have heavy dependencies.
    if name not in BACKENDS or _module(name) is None:
        known = [backend for backend in BACKENDS if _module(backend) is not None]
        raise ValueError(f"no backend {name!r} here (known: {', '.join(known)})")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def chosen(operation: str, *tensors: Tensor) -> str:
    """Name of the backend that handles `operation` on these tensors."""
    for name in BACKENDS if _forced is None else (_forced,):
        backend = _module(name)
        if backend is None or not hasattr(backend, operation):
            continue
        if backend.supports(operation, *tensors) and (
            _forced or backend.is_faster(operation, *tensors)
        ):
            return name
    return "reference"


def function(operation: str, *tensors: Tensor) -> Callable[..., Any]:
    """The function that handles `operation` on these tensors."""
    implementation: Callable[..., Any] = getattr(_module(chosen(operation, *tensors)), operation)
    return implementation


@functools.cache
def _module(name: str) -> ModuleType | None:
    """The module of a backend; None if it cannot run."""
    try:
        module = importlib.import_module(BACKENDS[name])
    except ImportError:
        return None
    return module if module.available() else None
