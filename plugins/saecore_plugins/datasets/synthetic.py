"""Activations made of known features: an experiment with a ground truth, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import attrs

from saecore.components import Component
from saecore.config.validators import above, at_least, between, device
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore_plugins.datasets.synthetic_rows import SyntheticRows


@attrs.frozen
class Correlation:
    """Features that tend to fire together (or not), through a few common causes."""

    rank: int = attrs.field(validator=at_least(1))
    """Number of common causes."""
    strength: float = attrs.field(validator=between(0, 1))
    """Share of each feature's variance that they explain, in the Gaussian copula."""


@attrs.frozen
class Hierarchy:
    """The first features are parents, those that follow their children."""

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
        """Parents and children together."""
        return self.parents * (1 + self.children)


@attrs.frozen
class SyntheticConfig:
    """The features and how they fire; `dataset.seed` decides them and all rows."""

    features: int = attrs.field(validator=at_least(1))
    """Number of true features: unit directions, drawn at random."""
    d_in: int = attrs.field(validator=at_least(1))
    """Size of the activations."""
    active: float = attrs.field(default=5.0, validator=above(0))
    """Features active at a time, on average."""
    firing: Literal["constant", "zipf", "linear"] = "constant"
    """How probabilities fall from the first feature to the last: not at all, as
    1 / rank^zipf_exponent, or linearly to almost zero. A child's is its parent's times
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
    """Parents and children; default: none."""
    device: str = attrs.field(default="auto", validator=device)
    """Where activations are made and the SAE is trained: "auto" (cuda, mps, cpu in this order) or
    a torch device."""

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
                f"expected a number for which no feature has to fire more often than always, got "
                f"{self.active}, which asks for probability {largest:.3g}; lower it, or flatten "
                "firing",
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
        return [self.active * one / total for one in shares]

    def _share(self, rank: int, count: int) -> float:
        if self.firing == "zipf":
            return float((rank + 1) ** -self.zipf_exponent)
        return 1.0 if self.firing == "constant" else 1.0 - rank / count


def build(config: SyntheticConfig, seed: int) -> SyntheticRows:
    """Make the stream of activations.

    Raises:
        ConfigError: this machine has no such device.
    """
    from saecore.reading import pick_device
    from saecore_plugins.datasets.synthetic_rows import SyntheticRows

    return SyntheticRows(config, seed, pick_device(config.device, key="dataset.device"))


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the dataset."""
    yield Component(
        kind="dataset",
        name="synthetic",
        config=SyntheticConfig,
        build=build,
        summary="activations made of known features; needs no model",
        gives=frozenset({"activations", "truth"}),
    )
