"""Handle SIGINT and SIGTERM: finish the step, save, stop; a second signal stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal.

    It is a KeyboardInterrupt, so that no `except Exception` around a run takes it for a failure
    and starts the next run.
    """

    def __init__(self, number: int, directory: Path | None = None, step: int | None = None) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number
        """The signal."""
        self.directory = directory
        """The run's directory, once it exists."""
        self.step = step
        """Completed steps in the newest checkpoint, if there is one."""


class Signals:
    """Handles SIGINT and SIGTERM during a `with` block, in the main thread only.

    A signal raises `Interrupted` at once, except inside `deferred()`, where the first signal is
    only recorded in `received`.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """The signal that has arrived."""
        self.again = False
        """Whether a second one has: nothing more is saved."""
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    @contextlib.contextmanager
    def deferred(self, on: bool = True) -> Iterator[None]:
        """Only record the first signal during a `with` block; with `on=False`, raise at once."""
        before, self._deferred = self._deferred, on
        try:
            yield
        finally:
            self._deferred = before

    def check(self) -> None:
        """Raise `Interrupted` if a signal has been recorded."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.again, self.received = self.received is not None, number
        if self.again or not self._deferred:
            raise Interrupted(number)
