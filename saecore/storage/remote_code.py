"""Permission to run Python code that comes with a model; only the caller can grant it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ALLOWED: ContextVar[bool] = ContextVar("remote_code_allowed", default=False)


def remote_code_allowed() -> bool:
    """Whether code that comes with a downloaded model or tokenizer may be imported."""
    return _ALLOWED.get()


@contextmanager
def remote_code(allowed: bool) -> Iterator[None]:
    """Allow or forbid code that comes with models within this context."""
    token = _ALLOWED.set(allowed)
    try:
        yield
    finally:
        _ALLOWED.reset(token)
