"""Tied SAEs and a soft threshold for saecore: their settings, and what is on offer."""

import attrs

from saecore import ArchitectureConfig
from saecore.plugins import Choice, Component, choice, hookimpl


@attrs.frozen
class TiedConfig(ArchitectureConfig):
    activation: Choice = choice("activation", "shrink")
    """Function from pre-activations to features."""
    l1_coefficient: float = 1.0
    """Weight of the sparsity penalty."""


@attrs.frozen
class ShrinkConfig:
    by: float = 0.1
    """What is taken off every pre-activation; the feature is what is left above zero."""


@hookimpl
def saecore_components():
    yield Component(kind="architecture", name="tied", config=TiedConfig,
                    build="saecore_tied.sae:Tied", summary="W_enc = W_dec.T")  # fmt: skip
    yield Component(kind="activation", name="shrink", config=ShrinkConfig,
                    build="saecore_tied.sae:Shrink", summary="soft ReLU")  # fmt: skip
