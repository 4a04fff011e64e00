"""Rows of the synthetic dataset: features that fire, their magnitudes and their sum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache

import attrs
import torch
from torch import Tensor

from saecore import ops
from saecore.core.step import Batch
from saecore.ops.codes import Codes
from saecore.randomness import generator
from saecore_plugins.datasets.synthetic.config import SyntheticConfig

BLOCK = 1024
"""Rows drawn together; the rows of a block do not depend on how they are read."""

Block = tuple[Codes, Tensor]
"""Features and activations."""


class SyntheticRows:
    """Rows x = a D of known features, as `SyntheticActivations`; any part can be drawn directly.

    D has unit rows in random directions. Feature i fires with probability p_i. Its magnitude is
    max(0, mean + std · n), n standard normal. With a correlation, feature i fires where
    √(1 − s) ε_i + √s v_i · z < Φ⁻¹(p_i), with ε_i and z standard normal, z common to the row and
    v_i a fixed random unit vector: a Gaussian copula of low rank, which leaves p_i unchanged. A
    child fires where its own draw does (with probability `child_probability`) and its parent
    fires. Exclusive children share one draw and take no part in the correlation.

    The structures are those of sae_lens.synthetic (SAELens 6).

    Args:
        config: the features and how they fire.
        seed: seed of features and rows.
        device: where rows are made; other types of device draw other rows.
        stream: name of the rows; other names give other rows of the same features.
    """

    def __init__(
        self, config: SyntheticConfig, seed: int, device: torch.device, stream: str = "train"
    ) -> None:
        self.config, self.seed, self.device, self.stream = config, seed, device, stream
        self.d_in = self.d_out = config.d_in
        self.metadata = {"activation_convention": "synthetic"}
        self.position = 0
        """Rows read so far."""
        settings = {**attrs.asdict(config), "device": device.type, "seed": seed}
        text = json.dumps(settings, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        n, tree = config.features, config.hierarchy
        self.directions = self._unit_rows("directions", config.d_in)
        probabilities = torch.tensor(config.probabilities(), dtype=torch.float64)
        self.probabilities = probabilities.float().to(device)
        """Firing probabilities `[n]`; of correlated children, exact only for s = 0."""
        if tree:
            # A child's limit is for its own draw, given that its parent fires.
            probabilities[tree.parents : tree.size] = tree.child_probability
        self._limits = torch.special.ndtri(probabilities).float().to(device)
        self._parents: Tensor | None = None
        if tree:
            self._parents = torch.arange(n, device=device)  # others are their own parents
            number = torch.arange(tree.parents * tree.children, device=device)
            self._parents[tree.parents : tree.size] = number // tree.children
        self._causes: Tensor | None = None
        if config.correlation:
            self._causes = self._unit_rows("causes", config.correlation.rank)
        self._block: Callable[[int], Block] = lru_cache(maxsize=2)(self._draw)

    def held_out(self) -> SyntheticRows:
        """Other rows of the same features, from position 0."""
        return SyntheticRows(self.config, self.seed, self.device, "held_out")

    def seek(self, position: int) -> None:
        """Continue from this position."""
        self.position = position

    def next(self, size: int) -> Batch:
        """The next rows; the stream does not end."""
        x = self._take(size, lambda block: block[1])
        return Batch(x, x)

    def next_features(self, size: int) -> Tensor:
        """The features `[size, n]` of the next rows."""
        return self._take(size, lambda block: block[0].dense())

    def _take(self, size: int, get: Callable[[Block], Tensor]) -> Tensor:
        begin, end = self.position, self.position + size
        parts = []
        for number in range(begin // BLOCK, -(-end // BLOCK)):
            at = number * BLOCK
            parts.append(get(self._block(number))[max(0, begin - at) : end - at])
        self.position = end
        return torch.cat(parts)

    def _draw(self, number: int) -> Block:
        """Features (`BLOCK` rows of n) and activations `[BLOCK, d_in]`."""
        c, shape = self.config, (BLOCK, self.config.features)
        random = generator(self.seed, f"synthetic/{self.stream}", number, self.device)
        normal = torch.randn(shape, generator=random, device=self.device)
        if self._causes is not None and c.correlation:
            common = torch.randn(BLOCK, c.correlation.rank, generator=random, device=self.device)
            s = c.correlation.strength
            normal = (1 - s) ** 0.5 * normal + s**0.5 * common @ self._causes.t()
        fires = normal < self._limits
        if c.hierarchy and self._parents is not None:
            tree = c.hierarchy
            if tree.exclusive:
                drawn = torch.rand(BLOCK, tree.parents, generator=random, device=self.device)
                chosen = (drawn / tree.child_probability).long()  # ≥ tree.children: none fires
                children = torch.arange(tree.children, device=self.device)
                firing = chosen[:, :, None] == children  # [BLOCK, parents, children]
                fires[:, tree.parents : tree.size] = firing.flatten(1)
            fires &= fires[:, self._parents]
        rows, active = fires.nonzero(as_tuple=True)
        noise = torch.randn(len(active), generator=random, device=self.device)
        magnitudes = (c.magnitude_mean + c.magnitude_std * noise).relu()
        ends = torch.bincount(rows, minlength=BLOCK).cumsum(0)
        offsets = torch.nn.functional.pad(ends, (1, 0))
        features = Codes.from_entries(magnitudes, active, offsets, c.features)
        return features, ops.decode(features, self.directions, None)

    def _unit_rows(self, name: str, size: int) -> Tensor:
        """Random unit vectors, one per feature `[n, size]`; equal on all devices."""
        random = generator(self.seed, f"synthetic/{name}")
        rows = torch.randn(self.config.features, size, generator=random)
        rows /= rows.norm(dim=1, keepdim=True)
        return rows.to(self.device)
