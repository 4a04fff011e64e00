"""The cross-layer transcoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from saecore import ops
from saecore.core.activation import PreActivations
from saecore.core.penalized_sae import PenalizedSAE
from saecore.core.sae_config import Shape
from saecore.errors import ConfigError
from saecore.ops.codes import Codes
from saecore_plugins.architectures.clt.encoding import LayeredEncoding


def cleared(matrix: Tensor, layers: int) -> Tensor:
    """Zero `[d_sae, L · d_out]` in place where a latent would write to an earlier layer."""
    size = matrix.shape[1] // layers
    for layer, rows in enumerate(matrix.chunk(layers)):
        rows[:, : layer * size] = 0
    return matrix


class CLT(PenalizedSAE):
    """f_l = activation(x_l W_enc,l + b_enc,l), ŷ_m = Σ_{l ≤ m} f_l W_dec,l→m + b_dec,m.

    Layer l reads the input x_l of its MLP; its features help to reconstruct the outputs y_m of
    its own MLP and all later ones. Each of the L layers has d_sae / L latents, in order of layers.
    Inputs and reconstructions are concatenated, or `[..., L, d]`.

    Parameters:
        encoder: `[d_sae, d]`; the rows of a layer read that layer's input.
        b_enc: `[d_sae]`.
        W_dec: `[d_sae, L · d_out]`; a row of layer l is zero for earlier targets.
        b_dec: `[L · d_out]`.

    Source: Ameisen et al., Circuit Tracing (Anthropic, March 2025).
    """

    architecture = "clt"
    several_hooks = True
    separate_target = True
    several_targets = True

    def __init__(self, config: Any, shape: Shape) -> None:
        layers = shape.hooks
        if shape.d_sae % layers:
            below = shape.d_sae // layers * layers
            raise ConfigError(
                [f"sae.d_sae: expected a multiple of the {layers} layers, as each has as many "
                 f"latents ({below or layers} or {below + layers}), got {shape.d_sae}"],
            )  # fmt: skip
        for name, size in (("d_in", shape.d_in), ("d_out", shape.d_out)):
            if size % layers:
                raise ConfigError(
                    [f"{name}: expected a multiple of the {layers} hooks, got {size}"]
                )
        super().__init__(config, shape)
        self._mask_gradients()

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Encoder rows have the size of one layer's activations."""
        encoder = (shape.d_sae, shape.d_in // shape.hooks)
        return {**super().parameter_sizes(shape), "encoder": encoder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Mask the gradients of a copy: tensor hooks are not copied."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._mask_gradients()

    def _mask_gradients(self) -> None:
        # Losses that use whole decoder rows (AuxK) have gradients at the zeros.
        layers = self.cfg.hooks
        if self.W_dec.requires_grad:
            self.W_dec.register_hook(lambda grad: cleared(grad.clone(), layers))

    def initialize(
        self, generator: torch.Generator, decoder_norm: float, tied: bool = True
    ) -> None:
        """Random directions; decoder rows get the norm after zeroing."""
        super().initialize(generator, decoder_norm, tied)
        with torch.no_grad():
            cleared(self.W_dec, self.cfg.hooks)
            self.W_dec.mul_(decoder_norm / self.W_dec.norm(dim=1, keepdim=True))

    def weights_problem(self) -> str | None:
        """Report a latent that writes to a layer before its own: `decode_codes` ignores it."""
        size = self.cfg.d_out // self.cfg.hooks
        for layer, rows in enumerate(self.W_dec.detach().chunk(self.cfg.hooks)):
            if layer and bool(rows[:, : layer * size].any()):
                return f"W_dec: latents of layer {layer} write to an earlier layer; expected zeros"
        return None

    def encoding(self, x: Tensor) -> PreActivations:
        """The encoders over `x [N, L, d]` or `[N, L · d]`."""
        by_layer = x.reshape(len(x), self.cfg.hooks, self.encoder.shape[1])
        return LayeredEncoding(
            x=by_layer,
            W_enc=self.W_enc,
            b_enc=self.b_enc,
            center=None,
            scale=None,
            decoder_norms=self.decoder_norms,
        )

    def decode_codes(self, codes: Tensor | Codes) -> Tensor:
        """Decode to `[..., L · d_out]`; each layer writes to its own target and those after it."""
        if not isinstance(codes, Codes):
            return super().decode_codes(codes)
        layers = self.cfg.hooks
        size = self.cfg.d_out // layers
        y_hat = self.b_dec.expand(codes.n_rows, -1)
        for layer, (layer_codes, rows) in enumerate(
            zip(codes.split(layers), self.W_dec.chunk(layers), strict=True)
        ):
            written = ops.decode(layer_codes, rows[:, layer * size :], None)
            y_hat = y_hat + functional.pad(written, (layer * size, 0))
        return y_hat

    def after_step(self) -> None:
        """Restore the zeros: some optimizers (muon) also change weights without gradients."""
        with torch.no_grad():
            cleared(self.W_dec, self.cfg.hooks)

    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Factors are numbers, or concatenated: `[d_in]` and `[d_out]`."""
        super().scale_input(1.0, factor if out is None else out)
        by_layer = factor.view(self.cfg.hooks, 1, -1) if isinstance(factor, Tensor) else factor
        with torch.no_grad():
            self.encoder.unflatten(0, (self.cfg.hooks, -1)).mul_(by_layer)
