"""The AbsTopK activation."""

from __future__ import annotations

from saecore.core.activation import PreActivations
from saecore.ops.codes import Codes
from saecore_plugins.activations.topk.activation import TopK


class AbsTopK(TopK):
    """The k largest of each token in absolute value; features may be negative."""

    rank_by_abs = True

    def _chosen(self, encoding: PreActivations, k: int) -> Codes:
        return encoding.topk(k, by="abs")
