"""PCA: projections on the principal components of the activations; a baseline."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import ArchitectureConfig
from saecore.plugins import Component, at_least, hookimpl


@attrs.frozen
class PCAConfig(ArchitectureConfig):
    """Settings of PCA; d_sae is the number of components, at most d_in."""

    k: int | None = attrs.field(default=None, validator=at_least(1))
    """Active components per token, those with the largest projections; default: all."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a setting that does not subtract the mean."""
        if not self.apply_b_dec_to_input:
            yield "apply_b_dec_to_input", "expected true: components are those of centered inputs"


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="pca",
        config=PCAConfig,
        build="saecore_plugins.architectures.pca.sae:PCA",
        summary="baseline: projections on principal components; published as AbsTopK",
    )
