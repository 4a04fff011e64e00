"""Tied SAEs and a soft threshold for saecore: their settings, and what is on offer."""

import attrs

from saecore import ArchitectureConfig, Component, hookimpl
from saecore.components import Choice, choice


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
    """Offer both; they are named by strings, so that torch is imported when one is used."""
    yield Component("architecture", "tied", TiedConfig, "saecore_tied.sae:Tied", "W_enc = W_dec.T")
    yield Component("activation", "shrink", ShrinkConfig, "saecore_tied.sae:Shrink", "soft ReLU")
