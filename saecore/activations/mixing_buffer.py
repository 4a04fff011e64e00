"""The mixing buffer: activations of a language model as one shuffled, resumable stream.

Rows are mixed over two fills (see `fills`). The stream is a function of the position alone:
resuming runs two fills again, and nothing is saved.
"""

from __future__ import annotations

from typing import Any

import attrs
from numpy.typing import NDArray

from saecore.activations.contexts import Contexts
from saecore.activations.fills import FillMixer
from saecore.activations.rows import ActivationRows
from saecore.activations.serve_cursor import ServeCursor
from saecore.core.model import ModelBackend
from saecore.core.step import Batch
from saecore.models.hook_site import HookSite


@attrs.frozen(kw_only=True)
class MixingBufferSettings:
    """What is read, and how it is mixed."""

    site: HookSite
    """Hooks that are read and reconstructed, and the tokens used."""
    fill_tokens: int = 65_536
    """Tokens per fill, before any are left out."""
    model_batch_size: int = 32
    """Contexts per forward pass."""
    epochs: int = 1
    """How often the contexts are read."""
    seed: int = 0
    """Seed of order and mixing."""


class MixingBuffer:
    """An `ActivationStore` over a live model.

    Args:
        backend: the language model.
        contexts: rows of tokens; an array `[n, context_size]` is permuted as a whole.
        settings: what is read, and how it is mixed.
    """

    def __init__(
        self,
        backend: ModelBackend,
        contexts: Contexts | NDArray[Any],
        settings: MixingBufferSettings,
    ) -> None:
        self.mixer = FillMixer(backend, contexts, settings)
        self.backend, self.settings, self.contexts = backend, settings, self.mixer.contexts
        self._cursor = ServeCursor(self.mixer, self.mixer.serve)

    @property
    def position(self) -> int:
        """Rows read so far."""
        return self._cursor.position

    def seek(self, position: int) -> None:
        """Continue from a position; the next read runs the fills it needs again."""
        self._cursor.seek(position)

    def next(self, size: int) -> Batch:
        """The next `size` rows.

        Raises:
            DataError: the text has ended; the message says how many rows there were.
        """
        return self.next_rows(size).batch(self.settings.site)

    def next_rows(self, size: int) -> ActivationRows:
        """The next `size` rows, one column per hook.

        Raises:
            DataError: as `next`.
        """
        rows = self._cursor.next_rows(size)
        share = self._cursor.share
        if share is not None:
            self.mixer.advance(share)
        return rows

    def rows(self) -> int | None:
        """Rows in the whole stream; None until the text has been read to its end."""
        return self.mixer.rows()
