"""Linear probes, and the choice of what they are trained on."""

from __future__ import annotations

import torch
from torch import Tensor


class Probe:
    """Logistic regression with an L2 penalty on standardized columns, fitted by L-BFGS.

    Minimizes mean cross-entropy + penalty/2 · ‖w‖²; the intercept is not penalized.

    Args:
        x: `[n, d]`.
        y: 0 or 1 `[n]`.
        penalty: weight of ‖w‖²/2.
    """

    def __init__(self, x: Tensor, y: Tensor, penalty: float = 1e-2) -> None:
        x, y = x.double(), y.to(x.device).double()
        self.mean, self.scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
        x = (x - self.mean) / self.scale
        w = torch.zeros(x.shape[1] + 1, dtype=torch.float64, device=x.device, requires_grad=True)
        solver = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            logits = x @ w[:-1] + w[-1]
            value = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
            value = value + penalty / 2 * w[:-1].square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            solver.step(loss)
        self._weights = w.detach()

    @property
    def direction(self) -> Tensor:
        """Gradient of the logit with respect to x `[d]`."""
        return self._weights[:-1] / self.scale

    def logits(self, x: Tensor) -> Tensor:
        """Logits of `x [n, d]`: `[n]`."""
        standard: Tensor = (x.double() - self.mean) / self.scale
        return standard @ self._weights[:-1] + self._weights[-1]

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of rows `x [n, d]` that are classified as `y [n]` says."""
        return float(((self.logits(x) > 0) == (y.to(x.device) > 0)).double().mean())


def balanced(labels: Tensor, number: int, mask: Tensor) -> Tensor:
    """Indices of rows `[m]` where `mask [n]`, as many of class `number` as of all others."""
    inside = (mask & (labels == number)).nonzero()[:, 0]
    outside = (mask & (labels != number)).nonzero()[:, 0]
    size = min(len(inside), len(outside))
    return torch.cat([inside[:size], outside[:size]]).sort().values


def class_contrast(labels: Tensor, number: int, rows: Tensor) -> Tensor:
    """Weights `[n]` whose product with values is the difference of the class means.

    Args:
        labels: class of each row `[n]`.
        number: the class that is compared with all others.
        rows: indices of the rows that count; the weight of the others is 0.
    """
    inside = labels[rows] == number
    weights = torch.zeros(len(labels), dtype=torch.float64)
    weights[rows] = torch.where(inside, 1 / inside.sum(), -1 / (~inside).sum()).double()
    return weights
