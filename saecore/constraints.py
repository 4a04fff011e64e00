"""Unit decoder rows: the gradient loses its part along each row, the row its length."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def remove_parallel(W_dec: Tensor) -> None:
    """Take from the gradient of `[d_sae, d]` what would only change the lengths of the rows."""
    grad = W_dec.grad
    if grad is not None:
        # Products of rows with rows leave nothing of the size of the matrix behind.
        along = _dots(grad, W_dec) / _dots(W_dec, W_dec)
        grad.addcmul_(along.nan_to_num(), W_dec, value=-1)


@torch.no_grad()
def make_unit(W_dec: Tensor) -> None:
    """Bring every row of `[d_sae, d]` to norm 1; rows of zeros stay."""
    W_dec.div_(W_dec.norm(dim=-1, keepdim=True).clamp(min=1e-8))


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """The scalar product of each row `[rows, 1]`."""
    return torch.bmm(a[:, None], b[:, :, None])[:, 0]
