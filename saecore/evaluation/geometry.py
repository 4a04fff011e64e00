"""Cosines between rows, such as decoder rows: nearest rows and one-to-one matching."""

from __future__ import annotations

import torch
from torch import Tensor

CELLS = 2**24
"""Cosines computed at once, so that no `[n, n]` matrix is held."""


def unit_rows(rows: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows `[n, d]` scaled to norm 1, detached; zero rows stay zero."""
    rows = rows.detach().to(dtype)
    scaled: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return scaled


def nearest_rows(
    rows: Tensor, k: int, others: Tensor | None = None, queries: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the rows with the highest cosine, for each row.

    Args:
        rows: `[n, d]`; their norms do not matter.
        k: neighbors per row, at most as many as there are.
        others: rows to search `[m, d]`; default: `rows`, without the row itself.
        queries: indices into `rows` of the rows to find neighbors for `[q]`; default: all.

    Returns:
        Cosines `[q, k]` in descending order, and indices of the neighbors `[q, k]`.
    """
    mine = unit_rows(rows)
    theirs = mine if others is None else unit_rows(others)
    if queries is None:
        queries = torch.arange(len(mine))
    cosines, indices = [], []
    for part in queries.to(mine.device).split(max(1, CELLS // max(1, len(theirs)))):
        products = mine[part] @ theirs.t()
        if others is None:
            products[torch.arange(len(part), device=part.device), part] = -torch.inf
        top = products.topk(k)
        cosines.append(top.values)
        indices.append(top.indices)
    return torch.cat(cosines), torch.cat(indices)


def max_cosines(rows: Tensor, others: Tensor | None = None) -> Tensor:
    """The highest cosine of each row `[n, d]` with any other row.

    Args:
        rows: `[n, d]`; their norms do not matter.
        others: rows to compare with `[m, d]`; default: `rows`, without the row itself.

    Returns:
        Cosines `[n]`; NaN if there is no other row.
    """
    if (len(rows) - 1 if others is None else len(others)) < 1:
        return torch.full((len(rows),), torch.nan, device=rows.device)
    return nearest_rows(rows, 1, others)[0][:, 0]


def absolute_cosines(a: Tensor, b: Tensor) -> Tensor:
    """|cos| of all pairs of rows of `a [n, d]` and `b [m, d]`: `[n, m]`; 0 for a zero row."""
    dtype = torch.float32 if a.device.type == "mps" else torch.float64  # mps has no float64
    cosines: Tensor = (unit_rows(a, dtype) @ unit_rows(b, dtype).t()).abs()
    return cosines


def match(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Pair rows one to one so that the sum of their absolute cosines is largest.

    The Hungarian method, O(n³). The mean of the cosines is the mean correlation coefficient
    (MCC) of two dictionaries.

    Args:
        a: rows `[n, d]`; their norms do not matter.
        b: rows `[m, d]`.

    Returns:
        Pairs (row of a, row of b) `[min(n, m), 2]` in the order of a, and their absolute cosines
        `[min(n, m)]`, both on the CPU.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = absolute_cosines(a, b).cpu()
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    pairs = torch.stack([torch.as_tensor(rows), torch.as_tensor(columns)], dim=1)
    return pairs, cosines[pairs[:, 0], pairs[:, 1]]
