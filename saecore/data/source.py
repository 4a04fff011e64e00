"""Where activations come from: one stream with a position."""

from __future__ import annotations

from typing import Protocol

from saecore.step import Batch


class ActivationSource(Protocol):
    """A fixed, endless-or-finite stream of rows, cut into batches as they are asked for.

    The rows do not depend on how they are cut; a source set to a position goes on exactly as
    one that has been read up to there.
    """

    @property
    def position(self) -> int:
        """Rows given out so far."""
        ...

    def seek(self, position: int) -> None:
        """Go on from this position."""
        ...

    def next(self, size: int) -> Batch:
        """The next `size` rows.

        Raises:
            DataError: there are fewer.
        """
        ...
