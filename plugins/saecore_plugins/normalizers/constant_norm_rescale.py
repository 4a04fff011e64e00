"""Scale every activation to norm √d_in; undone on the reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saecore.plugins import Component, NoSettings, hookimpl

if TYPE_CHECKING:
    from saecore.core.normalizer import RuntimeNormalizer


def build(config: NoSettings) -> RuntimeNormalizer:
    """Build the normalizer."""
    from saecore.core.normalizer import RuntimeNormalizer

    return RuntimeNormalizer(config, "constant_norm_rescale")


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="normalizer",
        name="constant_norm_rescale",
        build=build,
        summary="every activation at norm √d, as part of the SAE",
    )
