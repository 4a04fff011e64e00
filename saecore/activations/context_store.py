"""Whole contexts in the order of the text, for training through the model."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from saecore.activations.contexts import Contexts
from saecore.activations.fills import FillMixer
from saecore.activations.mixing_buffer import MixingBufferSettings
from saecore.core.model import ModelBackend
from saecore.core.step import Batch
from saecore.errors import DataError


class ContextStore:
    """An `ActivationStore` whose batches are whole contexts, in the order of the text.

    A batch is one fill, unmixed: the model reads the same contexts again for the loss.

    Args:
        backend: the language model.
        contexts: rows of tokens; an array `[n, context_size]` is permuted as a whole.
        settings: what is read; a fill is a batch.
    """

    def __init__(
        self,
        backend: ModelBackend,
        contexts: Contexts | NDArray[Any],
        settings: MixingBufferSettings,
    ) -> None:
        self.position = 0
        """Rows read so far."""
        self._fills = FillMixer(backend, contexts, settings)

    def seek(self, position: int) -> None:
        """Continue from a position, which must be the beginning of a batch."""
        self.position = position

    def next(self, size: int) -> Batch:
        """The next batch; `size` must be that of a fill.

        Raises:
            DataError: the text has ended.
        """
        number, offset = divmod(self.position, size)
        fill_tokens = self._fills.settings.fill_tokens
        if offset or size != fill_tokens:
            raise DataError(f"batches of whole contexts have {fill_tokens} tokens")
        rows = self._fills.read_rows(self._fills.tokens(number))
        if len(rows) < size:
            raise DataError(self._fills.ended())
        self.position += size
        return rows.batch(self._fills.settings.site)

    def rows(self) -> int | None:
        """Rows in the whole stream; None until the text has been read to its end."""
        return self._fills.rows()
