"""A position in a stream of serves, from which rows are read."""

from __future__ import annotations

from collections.abc import Callable

from saecore.activations.fills import FillMixer
from saecore.activations.rows import ActivationRows
from saecore.errors import DataError


class ServeCursor:
    """Reads the rows of consecutive serves in pieces of any size.

    Only the position has to be saved: after seeking, the serve is made again.

    Args:
        mixer: says how long each serve is, and where the text ends.
        serve: makes the rows of a serve.
    """

    def __init__(self, mixer: FillMixer, serve: Callable[[int], ActivationRows]) -> None:
        self.position = 0
        """Rows read so far."""
        self._mixer, self._make = mixer, serve
        self._rows: ActivationRows | None = None  # of the current serve
        self._serve = -1  # unknown until the first seek or read
        self._begin = 0  # position at which the current serve begins

    @property
    def serve(self) -> int:
        """Number of the serve that is read next."""
        return max(0, self._serve)

    @property
    def share(self) -> float | None:
        """How much of the current serve has been read, 0 to 1; None between two serves."""
        if self._rows is None:
            return None
        return (self.position - self._begin) / len(self._rows)

    def seek(self, position: int) -> None:
        """Continue from a position."""
        self.position = position
        begin, serve = 0, 0
        while self._mixer.contexts_in(serve) and begin + self._mixer.serve_rows(serve) <= position:
            begin += self._mixer.serve_rows(serve)
            serve += 1
        self._begin, self._serve, self._rows = begin, serve, None

    def forget(self) -> None:
        """Free the rows of the current serve."""
        self._rows = None

    def next_rows(self, size: int) -> ActivationRows:
        """The next `size` rows, one column per hook.

        Raises:
            DataError: the text has ended; the message says how many rows there were.
        """
        parts: list[ActivationRows] = []
        missing = size
        if self._serve < 0:
            self.seek(self.position)
        while missing:
            if not self._mixer.has_serve(self._serve):
                raise DataError(self._mixer.ended())
            if self._rows is None:
                self._rows = self._make(self._serve)
            at = self.position - self._begin
            part = self._rows.take(slice(at, at + missing))
            parts.append(part)
            missing -= len(part)
            self.position += len(part)
            if self.position == self._begin + len(self._rows):
                self._begin += len(self._rows)
                self._serve, self._rows = self._serve + 1, None
        return ActivationRows.join(parts)
