"""Keep decoder rows at unit norm: project the gradients, renormalize the rows."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def remove_parallel(W_dec: Tensor) -> None:
    """Remove the components of the gradient `[d_sae, d]` that are parallel to the rows."""
    grad = W_dec.grad
    if grad is not None:
        # Row-wise products allocate nothing of the size of the matrix.
        along = _dots(grad, W_dec) / _dots(W_dec, W_dec)
        grad.addcmul_(along.nan_to_num(), W_dec, value=-1)


@torch.no_grad()
def make_unit(W_dec: Tensor) -> None:
    """Scale every row of `[d_sae, d]` to norm 1; zero rows stay zero."""
    W_dec.div_(W_dec.norm(dim=-1, keepdim=True).clamp(min=1e-8))


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """The dot product of each pair of rows: `[rows, 1]`."""
    return torch.bmm(a[:, None], b[:, :, None])[:, 0]
