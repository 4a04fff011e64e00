"""Confidence intervals of metrics that are functions of sums over tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

GROUPS = 32
"""Number of groups of contexts; each is left out once."""


class Jackknife:
    """The delete-a-group jackknife over contexts, since tokens of one context are not independent.

    Context i belongs to group i mod `GROUPS`. Let θ be the metric of all sums and θ₋ⱼ that of all
    sums without group j. Then s² = (g−1)/g Σ (θ₋ⱼ − mean θ₋)², and the interval is
    θ ± t(97.5 %, g−1) · s. Source: Tukey 1958; Kott 2001, "The Delete-a-Group Jackknife". Memory
    does not grow with the number of tokens.

    Args:
        size: number of sums.
        device: device of the sums.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        double = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(GROUPS, size, dtype=double, device=device)
        self.contexts = 0

    def add(self, context: Tensor, *parts: Tensor) -> None:
        """Add rows to the sums.

        Args:
            context: index of each row's context `[N]`.
            parts: columns to sum, `[N]` or `[N, n]` each; `size` columns in all.
        """
        if not len(context):
            return
        self.contexts = max(self.contexts, int(context.max()) + 1)
        group = (context % GROUPS).to(self.sums.device)
        first = 0
        for part in parts:
            columns = part.unsqueeze(1) if part.dim() == 1 else part
            sums = self.sums[:, first : first + columns.shape[1]]
            sums.index_add_(0, group, columns.to(self.sums))
            first += columns.shape[1]

    def intervals(
        self, metrics: Callable[[Tensor], Mapping[str, float]]
    ) -> dict[str, tuple[float, float]]:
        """95 % intervals by name; empty with fewer than two contexts.

        Args:
            metrics: computes metrics by name from sums `[size]`.
        """
        from scipy.special import stdtrit

        g = min(GROUPS, self.contexts)
        if g < 2:
            return {}
        total = self.sums.sum(0)
        without = [metrics(total - group) for group in self.sums[:g]]
        intervals = {}
        for name, value in metrics(total).items():
            values = torch.tensor([others[name] for others in without], dtype=torch.float64)
            error = float(((g - 1) / g * (values - values.mean()).square().sum()).sqrt())
            margin = float(stdtrit(g - 1, 0.975)) * error
            intervals[name] = (value - margin, value + margin)
        return intervals
