"""A few positions or tokens that cause most of the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, above, at_least, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.monitor import View


@attrs.frozen
class DominantTokensConfig:
    """What counts as few, and as most."""

    loss: float = attrs.field(default=0.5, validator=above(0))
    """Share of the loss."""
    tokens: float = attrs.field(default=0.05, validator=above(0))
    """Largest share of the tokens that cause it."""
    few: int = attrs.field(default=3, validator=at_least(1))
    """Number of positions or token ids."""


class DominantTokens:
    """Warns when a few positions or tokens of the last batch cause most of the loss.

    Attention sinks and BOS tokens have norms far above all others.
    """

    def __init__(self, config: DominantTokensConfig) -> None:
        self.config = config

    def __call__(self, view: View) -> str | None:
        """Check positions first, because they are the easiest to exclude."""
        losses = view.token_losses
        groups = (
            ("position", view.batch.positions, "dataset.positions"),
            ("token", view.batch.tokens, "dataset.exclude_special_tokens"),
        )
        for what, kinds, key in groups:
            dominant = None if kinds is None else self._dominant(kinds.to(losses.device), losses)
            if dominant is not None:
                names, share, part = dominant
                return (
                    f"{what} {', '.join(map(str, names))}: {part:.1%} of the tokens have "
                    f"{share:.0%} of the loss; leave them out with {key}"
                )
        return None

    def _dominant(self, kinds: Tensor, losses: Tensor) -> tuple[list[int], float, float] | None:
        """The ids with most of the loss, their share of it and their share of the tokens."""
        names, group, counts = kinds.unique(return_inverse=True, return_counts=True)
        sums = losses.new_zeros(len(names)).index_add(0, group, losses)
        best = sums.topk(min(self.config.few, len(names))).indices
        sums, counts, names = sums[best], counts[best], names[best]
        loss = (sums.cumsum(0) / losses.sum().clamp(min=1e-30)).tolist()
        tokens = (counts.cumsum(0) / len(kinds)).tolist()
        for n, (share, part) in enumerate(zip(loss, tokens, strict=True), 1):
            if share > self.config.loss and part <= self.config.tokens:
                return names[:n].tolist(), share, part
        return None


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="monitor",
        name="dominant_tokens",
        config=DominantTokensConfig,
        build=DominantTokens,
        summary="a few positions or tokens that have most of the loss",
    )
