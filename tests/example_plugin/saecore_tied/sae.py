"""The tied SAE and the soft threshold."""

from saecore import SAE
from saecore.core.activation import Activation


class Shrink(Activation):
    def __init__(self, config, shape):
        super().__init__()
        self.by = config.by

    def select(self, encoding):
        codes = encoding.above(self.by)
        return codes.with_values(codes.values - self.by)


class Tied(SAE):
    """f = activation((x - b_dec) W_dec.T + b_enc) under an L1 penalty on f times decoder norms."""

    architecture = "tied"

    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.encoder = self.W_dec  # one parameter under two names
        self.activation = config.activation.build(shape)

    def training_step(self, batch, context):
        output = super().training_step(batch, context)
        l1 = output.codes.values * output.codes.per_latent(self.W_dec.norm(dim=1))
        output.losses["l1_loss"] = self.cfg.l1_coefficient * l1.sum() / len(batch)
        return output
