"""One stream of activations that several SAEs read, each at its own pace.

The stream is a function of its position, so that readers need not agree on batch sizes: each has
a position of its own. The model runs once for all of them: a fill holds the activations of every
hook that one of them reads, and what is served stays until the last reader has passed it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import attrs
from numpy.typing import NDArray

from saecore.backend import ModelBackend
from saecore.data.buffer import Window, WindowSettings
from saecore.data.contexts import Contexts
from saecore.data.rows import Rows


class SharedStream(Window):
    """The window behind several readers.

    Keep the readers close to each other (always step the one that is furthest behind): what lies
    between the last and the first of them is held in memory.

    Args:
        backend: the language model.
        contexts: rows of tokens.
        settings: what is read and how it is mixed; the hooks are those of all readers.
    """

    def __init__(
        self, backend: ModelBackend, contexts: Contexts | NDArray[Any], settings: WindowSettings
    ) -> None:
        super().__init__(backend, contexts, settings)
        self.readers: list[Reader] = []
        """Those that still read."""
        self.seconds = 0.0
        """Spent on what is done once for all readers: running the model, mixing."""
        self._serves: dict[int, Rows] = {}

    def reader(self, hooks: Sequence[str], targets: Sequence[str]) -> Reader:
        """A reader at the beginning of the stream, of some of its hooks."""
        made = Reader(self, attrs.evolve(self.settings, hooks=tuple(hooks), targets=tuple(targets)))
        self.readers.append(made)
        for one in self.readers:
            one.runs = len(self.readers)
        return made

    def served(self, serve: int) -> Rows:
        """The rows of a serve with every hook's activations, made when they are first needed."""
        if serve not in self._serves:
            begin = time.monotonic()
            self._serve, self._served = serve, self._mix(serve)
            self._serves[serve] = self._served
            self._look_ahead()
            self.seconds += time.monotonic() - begin
        return self._serves[serve]

    def release(self) -> None:
        """Let go of what every reader has passed."""
        last = min((one.serve for one in self.readers), default=None)
        for serve in [one for one in self._serves if last is None or one < last]:
            del self._serves[serve]


class Reader(Window):
    """An `ActivationSource`: what a `Window` with the same settings gives, to the last bit."""

    def __init__(self, stream: SharedStream, settings: WindowSettings) -> None:
        super().__init__(stream.backend, stream.contexts, settings)
        self._stream = stream
        self.waited = 0.0
        """Seconds of the stream's work that this reader came upon first."""
        self.runs = 1
        """How many read the stream in all."""

    @property
    def seconds(self) -> float:
        """Spent so far on what is done once for all readers."""
        return self._stream.seconds

    @property
    def serve(self) -> int:
        """The serve that is read next."""
        return max(0, self._serve)

    def leave(self) -> None:
        """Read no more."""
        self._served = None
        if self in self._stream.readers:
            self._stream.readers.remove(self)
        self._stream.release()

    def _mix(self, serve: int) -> Rows:
        self._stream.release()
        begin = time.monotonic()
        rows = self._stream.served(serve)
        self.waited += time.monotonic() - begin
        return rows

    def _look_ahead(self) -> None:
        """The stream does that for all."""

    def _kept_count(self, n: int) -> int:
        return self._stream._kept(n)
