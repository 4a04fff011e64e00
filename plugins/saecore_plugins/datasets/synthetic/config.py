"""Settings of the synthetic dataset: the features and how they fire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from saecore.plugins import above, at_least, between, device


@attrs.frozen
class Correlation:
    """Features that tend to fire together, or not, through a few common causes."""

    rank: int = attrs.field(validator=at_least(1))
    """Number of common causes."""
    strength: float = attrs.field(validator=between(0, 1))
    """Share of each feature's variance explained by them, in the Gaussian copula."""


@attrs.frozen(kw_only=True)
class Hierarchy:
    """Parents and children: the first features are parents, the next ones their children."""

    parents: int = attrs.field(validator=at_least(1))
    """Features that have children."""
    children: int = attrs.field(validator=at_least(1))
    """Children of each parent; a child never fires without its parent."""
    child_probability: float = attrs.field(default=0.2, validator=[above(0), between(0, 1)])
    """Probability that a child fires when its parent does."""
    exclusive: bool = False
    """At most one child of a parent fires at a time."""

    @property
    def size(self) -> int:
        """Number of parents and children together."""
        return self.parents * (1 + self.children)


@attrs.frozen(kw_only=True)
class SyntheticConfig:
    """The features and how they fire; `dataset.seed` decides the features and all rows."""

    features: int = attrs.field(validator=at_least(1))
    """Number of true features: unit directions, drawn at random."""
    d_in: int = attrs.field(validator=at_least(1))
    """Size of the activations."""
    active: float = attrs.field(default=5.0, validator=above(0))
    """Features active at a time, on average."""
    firing: Literal["constant", "zipf", "linear"] = "constant"
    """How firing probabilities fall from the first feature to the last: not at all, as
    1 / rank^zipf_exponent, or linearly to almost zero. A child's probability is its parent's times
    child_probability."""
    zipf_exponent: float = attrs.field(default=1.0, validator=at_least(0))
    """Exponent of "zipf"."""
    magnitude_mean: float = attrs.field(default=1.0, validator=above(0))
    """Mean magnitude of an active feature, before rectification."""
    magnitude_std: float = attrs.field(default=0.2, validator=at_least(0))
    """Standard deviation of the magnitudes, before rectification."""
    correlation: Correlation | None = None
    """Correlated firing; default: features fire independently."""
    hierarchy: Hierarchy | None = None
    """Hierarchy of features; default: none."""
    device: str = attrs.field(default="auto", validator=device)
    """Where activations are made and the SAE is trained: a torch device, or "auto" (the first
    available of cuda, mps, cpu)."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report probabilities above 1, and a hierarchy larger than the features."""
        tree = self.hierarchy
        if tree is not None and tree.size > self.features:
            yield (
                "hierarchy",
                f"expected at most features = {self.features} parents and children, "
                f"got {tree.parents} · (1 + {tree.children}) = {tree.size}",
            )
        elif tree is not None and tree.exclusive and tree.children * tree.child_probability > 1:
            yield (
                "hierarchy.child_probability",
                f"expected at most 1 / {tree.children} for {tree.children} exclusive children, "
                f"got {tree.child_probability}",
            )
        elif (largest := max(self.probabilities())) > 1:
            yield (
                "active",
                f"expected firing probabilities of at most 1, but {self.active} gives the most "
                f"frequent feature {largest:.3g}; lower it, or flatten firing",
            )

    def probabilities(self) -> list[float]:
        """How often each feature fires; their sum is `active`."""
        tree, n = self.hierarchy, self.features
        nested = tree.parents * tree.children if tree else 0
        shares = [self._share(i, n - nested) for i in range(n - nested)]
        if tree:
            parents = shares[: tree.parents]
            children = [p * tree.child_probability for p in parents for _ in range(tree.children)]
            shares[tree.parents : tree.parents] = children
        total = sum(shares)
        return [self.active * share / total for share in shares]

    def _share(self, rank: int, count: int) -> float:
        if self.firing == "zipf":
            return float((rank + 1) ** -self.zipf_exponent)
        return 1.0 if self.firing == "constant" else 1.0 - rank / count
