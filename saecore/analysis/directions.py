"""Decoder rows: their direct effect on logits, their neighbors and their norms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from saecore.core.model import ModelBackend
    from saecore.core.sae import SAE

Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Indices `[n, m]`, the best first, and their values `[n, m]`."""


def logits(sae: SAE, backend: ModelBackend, latents: NDArray[np.int64], m: int) -> (
    tuple[Ranked, Ranked] | None
):  # fmt: skip
    """The `m` tokens whose logits each latent raises and lowers most.

    The direct path: decoder row times unembedding, without the final normalization.

    Args:
        sae: the SAE.
        backend: the language model.
        latents: indices of latents `[n]`.
        m: tokens per latent.

    Returns:
        The highest and the lowest; None if the unembedding does not take vectors of the decoder's
        size.
    """
    unembed = backend.unembed
    if unembed is None or sae.W_dec.shape[1] != unembed.shape[0]:
        return None
    highest, lowest = [], []
    with torch.no_grad():
        matrix = unembed.float()
        for part in torch.from_numpy(latents).split(64):  # 64 rows of logits at a time
            rows = sae.W_dec[part.to(sae.W_dec.device)].to(matrix.device).float() @ matrix
            highest.append(rows.topk(m))
            lowest.append(rows.topk(m, largest=False))
    return _joined(highest), _joined(lowest)


def alike(sae: SAE, latents: NDArray[np.int64], m: int) -> Ranked:
    """For each latent, the other latents with the most similar decoder rows, at most m."""
    from saecore.evaluation.geometry import nearest_rows

    rows, queries = sae.W_dec.flatten(1), torch.from_numpy(latents)
    cosines, neighbors = nearest_rows(rows, min(m, sae.cfg.d_sae - 1), queries=queries)
    return neighbors.cpu().numpy(), cosines.cpu().numpy()


def norms(sae: SAE, latents: NDArray[np.int64]) -> NDArray[np.float32]:
    """Norms of the decoder rows `[n]`."""
    with torch.no_grad():
        rows = sae.W_dec[torch.from_numpy(latents).to(sae.W_dec.device)]
        return np.asarray(rows.flatten(1).float().norm(dim=1).cpu().numpy())


def largest(values: NDArray[np.float64], m: int) -> Ranked:
    """The m largest of each row of `[n, d]`; the first among equals."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :m]
    return order, np.take_along_axis(values, order, 1).astype(np.float32)


def _joined(parts: list[torch.return_types.topk]) -> Ranked:
    indices = torch.cat([part.indices for part in parts]).cpu().numpy()
    return indices, torch.cat([part.values for part in parts]).cpu().numpy()
