"""Confidence intervals of figures that are functions of sums over tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

GROUPS = 32
"""Groups of contexts that are left out in turn."""


class Jackknife:
    """The delete-a-group jackknife over contexts: tokens of one context are not independent.

    Context i belongs to group i mod `GROUPS`. With θ of all sums and θ₋ⱼ of all but group j's,
    s² = (g−1)/g Σ (θ₋ⱼ − mean θ₋)² and the interval is θ ± t(97.5 %, g−1) · s. Source: Tukey 1958;
    Kott 2001, "The Delete-a-Group Jackknife". Memory does not grow with the tokens.

    Args:
        size: number of sums.
        device: where they live.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        double = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(GROUPS, size, dtype=double, device=device)
        self.contexts = 0

    def add(self, context: Tensor, *parts: Tensor) -> None:
        """Add to the sums.

        Args:
            context: the number of each row's context `[N]`.
            parts: what is summed, `[N]` or `[N, n]` each; `size` columns together.
        """
        if not len(context):
            return
        self.contexts = max(self.contexts, int(context.max()) + 1)
        group = (context % GROUPS).to(self.sums.device)
        first = 0
        for part in parts:
            columns = part.unsqueeze(1) if part.dim() == 1 else part
            here = self.sums[:, first : first + columns.shape[1]]
            here.index_add_(0, group, columns.to(self.sums))
            first += columns.shape[1]

    def intervals(
        self, figures: Callable[[Tensor], Mapping[str, float]]
    ) -> dict[str, tuple[float, float]]:
        """95 % intervals; none where there are fewer than two contexts.

        Args:
            figures: figures of sums `[size]`.
        """
        from scipy.special import stdtrit

        g = min(GROUPS, self.contexts)
        if g < 2:
            return {}
        total = self.sums.sum(0)
        whole = figures(total)
        without = [figures(total - one) for one in self.sums[:g]]
        found = {}
        for name, value in whole.items():
            each = torch.tensor([one[name] for one in without], dtype=torch.float64)
            error = float(((g - 1) / g * (each - each.mean()).square().sum()).sqrt())
            margin = float(stdtrit(g - 1, 0.975)) * error
            found[name] = (value - margin, value + margin)
        return found
