"""The AbsTopK activation."""

from __future__ import annotations

from saecore.activation import Encoding
from saecore.codes import Codes
from saecore_plugins.activations.topk.activation import TopK


class AbsTopK(TopK):
    """The k largest of each token in absolute value; features may be negative."""

    rank_by_abs = True

    def _chosen(self, encoding: Encoding, k: int) -> Codes:
        return encoding.topk(k, by="abs")
