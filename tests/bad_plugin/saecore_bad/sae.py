"""An activation that does not say which latents are active."""

from saecore.activation import Activation


class Abstract(Activation):
    """Implements nothing."""
