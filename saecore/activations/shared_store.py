"""One stream of activations read by several SAEs, each at its own pace.

The stream is a function of its position, so readers need not agree on batch sizes. The model runs
once for all of them: a fill holds the activations of every hook that any reader reads, and a
serve is kept until the last reader has passed it.
"""

from __future__ import annotations

import time
from typing import Any

from numpy.typing import NDArray

from saecore.activations.contexts import Contexts
from saecore.activations.fills import FillMixer
from saecore.activations.mixing_buffer import MixingBufferSettings
from saecore.activations.rows import ActivationRows
from saecore.activations.serve_cursor import ServeCursor
from saecore.core.model import ModelBackend
from saecore.core.step import Batch
from saecore.models.hook_site import HookSite


class SharedActivationStore:
    """The mixed stream behind several readers.

    Keep the readers close to each other (always step the one furthest behind): everything between
    the last and the first of them is held in memory.

    Args:
        backend: the language model.
        contexts: rows of tokens.
        settings: what is read, and how it is mixed; its hooks are those of all readers.
    """

    def __init__(
        self,
        backend: ModelBackend,
        contexts: Contexts | NDArray[Any],
        settings: MixingBufferSettings,
    ) -> None:
        self.mixer = FillMixer(backend, contexts, settings)
        self.readers: list[StoreReader] = []
        """Readers that have not left."""
        self.seconds = 0.0
        """Time spent once for all readers: running the model and mixing."""
        self._serves: dict[int, ActivationRows] = {}

    def reader(self, site: HookSite) -> StoreReader:
        """A reader at the beginning of the stream.

        Args:
            site: the hooks it reads, some of the stream's; head and tokens are the stream's.
        """
        reader = StoreReader(self, site)
        self.readers.append(reader)
        for other in self.readers:
            other.runs = len(self.readers)
        return reader

    def serve(self, number: int) -> ActivationRows:
        """The rows of a serve, one column per hook of the stream; made on first use."""
        if number not in self._serves:
            begin = time.monotonic()
            self._serves[number] = self.mixer.serve(number)
            self.seconds += time.monotonic() - begin
        return self._serves[number]

    def release(self) -> None:
        """Drop the serves that every reader has passed."""
        last = min((reader.serve for reader in self.readers), default=None)
        for number in [n for n in self._serves if last is None or n < last]:
            del self._serves[number]


class StoreReader:
    """An `ActivationStore`: bit for bit what a `MixingBuffer` with the same settings gives.

    Args:
        store: the stream.
        site: the hooks that are read.
    """

    def __init__(self, store: SharedActivationStore, site: HookSite) -> None:
        self.site = site
        self.waited = 0.0
        """Seconds of the shared work that this reader was the first to need."""
        self.runs = 1
        """Number of readers of the stream."""
        self._store = store
        self._cursor = ServeCursor(store.mixer, self._make)

    @property
    def position(self) -> int:
        """Rows read so far."""
        return self._cursor.position

    @property
    def seconds(self) -> float:
        """Time spent so far once for all readers."""
        return self._store.seconds

    @property
    def serve(self) -> int:
        """Number of the serve that is read next."""
        return self._cursor.serve

    def seek(self, position: int) -> None:
        """Continue from a position."""
        self._cursor.seek(position)

    def next(self, size: int) -> Batch:
        """The next `size` rows.

        Raises:
            DataError: the text has ended; the message says how many rows there were.
        """
        return self._cursor.next_rows(size).batch(self.site)

    def rows(self) -> int | None:
        """Rows in the whole stream; None until the text has been read to its end."""
        return self._store.mixer.rows()

    def leave(self) -> None:
        """Stop reading, so that the stream keeps nothing for this reader."""
        self._cursor.forget()
        if self in self._store.readers:
            self._store.readers.remove(self)
        self._store.release()

    def _make(self, number: int) -> ActivationRows:
        self._store.release()
        begin = time.monotonic()
        rows = self._store.serve(number)
        self.waited += time.monotonic() - begin
        return rows
