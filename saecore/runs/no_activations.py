"""The activation store of a trainer that takes no step."""

from __future__ import annotations

from saecore.core.step import Batch


class NoActivations:
    """An `ActivationStore` without activations, for a trainer that is only looked at."""

    position = 0
    """Rows read so far."""

    def seek(self, position: int) -> None:
        """Do nothing: there are no rows."""

    def next(self, size: int) -> Batch:
        """Refuse to train.

        Raises:
            LookupError: always.
        """
        raise LookupError("this trainer has no activations")
