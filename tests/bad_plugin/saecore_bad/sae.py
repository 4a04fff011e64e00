"""An SAE that does not say which latents are active."""

from saecore import SAE


class Abstract(SAE):
    """Implements nothing."""

    architecture = "abstract"
