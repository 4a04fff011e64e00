"""PCA: projections on the principal components of the activations; a baseline."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import ArchitectureConfig
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class PCAConfig(ArchitectureConfig):
    """Settings of PCA; d_sae is the number of components, at most d_in."""

    k: int | None = attrs.field(default=None, validator=at_least(1))
    """Components active per token, those with the largest projections; default: all."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a mean that is not subtracted."""
        if not self.apply_b_dec_to_input:
            yield "apply_b_dec_to_input", "expected true: components are those of centred inputs"


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="pca",
        config=PCAConfig,
        build="saecore_plugins.architectures.pca.sae:PCA",
        summary="baseline: projections on principal components; published as AbsTopK",
    )
