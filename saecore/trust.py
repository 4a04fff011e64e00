"""Whether Python code that comes with a model may run: only the caller can say so, never a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ALLOWED: ContextVar[bool] = ContextVar("remote_code_allowed", default=False)


def remote_code_allowed() -> bool:
    """Whether the code of a downloaded model or tokenizer may be imported here."""
    return _ALLOWED.get()


@contextmanager
def remote_code(allowed: bool) -> Iterator[None]:
    """Within this context, models' own code may run, or may not."""
    token = _ALLOWED.set(allowed)
    try:
        yield
    finally:
        _ALLOWED.reset(token)
