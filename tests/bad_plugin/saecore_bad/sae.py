"""An activation that does not say which latents are active."""

from saecore.core.activation import Activation


class Abstract(Activation):
    """Implements nothing."""
