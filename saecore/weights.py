"""The weights of an SAE: parameters, their first values, and what is folded into them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from saecore.activation import Activation
from saecore.config.architecture import ArchitectureConfig, RescaledConfig
from saecore.errors import ConfigError
from saecore.sae_config import SAEConfig, Shape


class Weights(nn.Module):
    """Parameters of an SAE; `SAE` adds what is computed with them.

    Both matrices are latent-major and contiguous, because sparse work walks latents:
        encoder: `[d_sae, d_in]`; `W_enc [d_in, d_sae]` is its transpose view.
        b_enc: `[d_sae]`.
        W_dec: `[d_sae, d_out]`.
        b_dec: `[d_out]`.
    """

    architecture: ClassVar[str]
    """The name in experiment files and in cfg.json."""
    latent_vectors: ClassVar[tuple[str, ...]] = ("b_enc",)
    """Parameters `[d_sae]` in the unit of pre-activations; they scale with them."""

    encoder: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter
    activation: Activation | None

    @property
    def competitive(self) -> bool:
        """Whether latents compete, so that the scale of one decides about others, too."""
        return self.activation is not None and self.activation.competitive

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__()
        self.cfg = SAEConfig(
            d_in=shape.d_in,
            d_sae=shape.d_sae,
            d_out=shape.d_out,
            architecture=self.architecture,
            dtype=str(shape.dtype).removeprefix("torch."),
            device=str(shape.device),
            method=config,
            hooks=shape.hooks,
        )

        for name, size in self.parameter_sizes(shape).items():
            tensor = torch.zeros(size, dtype=shape.dtype, device=shape.device)
            self.register_parameter(name, nn.Parameter(tensor))
        self.activation = None

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Names and sizes of the parameters; all begin as zeros."""
        return {
            "encoder": (shape.d_sae, shape.d_in),
            "b_enc": (shape.d_sae,),
            "W_dec": (shape.d_sae, shape.d_out),
            "b_dec": (shape.d_out,),
        }

    @property
    def W_enc(self) -> Tensor:
        """The encoder as everyone knows it, `[d_in, d_sae]`: a view of `encoder`."""
        return self.encoder.t()

    def __setattr__(self, name: str, value: Any) -> None:
        """Assigning to `W_enc` copies `[d_in, d_sae]` into `encoder`."""
        if name == "W_enc":
            if value.shape != self.W_enc.shape:
                raise ValueError(f"W_enc is {list(self.W_enc.shape)}, got {list(value.shape)}")
            with torch.no_grad():
                self.encoder.copy_(value.t())
        else:
            super().__setattr__(name, value)

    def initialize(
        self, generator: torch.Generator, decoder_norm: float, tied: bool = True
    ) -> None:
        """Start from random directions, biases zero.

        Args:
            generator: source of the numbers, on the CPU.
            decoder_norm: norm of every decoder row.
            tied: the encoder is the decoder's transpose, where their sizes agree; else it has
                directions of its own with the same norm.
        """
        with torch.no_grad():
            for name in ("W_dec", "encoder"):
                matrix = self._parameters.get(name)
                if matrix is None:
                    continue
                if name == "encoder" and tied and matrix.shape == self.W_dec.shape:
                    matrix.copy_(self.W_dec)
                    continue
                rows = torch.randn(matrix.shape, generator=generator)
                rows *= decoder_norm / rows.norm(dim=-1, keepdim=True)
                matrix.copy_(rows)

    def decoder_norms(self) -> Tensor:
        """Norms of the decoder rows `[d_sae]`, differentiable."""
        norms: Tensor = self.W_dec.norm(dim=1)
        return norms

    @property
    def centre(self) -> Tensor | None:
        """What is subtracted from the input `[d_in]`, if anything."""
        config = self.cfg.method
        subtract = isinstance(config, ArchitectureConfig) and config.apply_b_dec_to_input
        return self.b_dec if subtract else None

    def untie(self) -> None:
        """Give the encoder weights of its own, where a subclass has set `encoder = W_dec`.

        What is folded into one of the two cannot be folded into the other.
        """
        if self._parameters.get("encoder") is self.W_dec:
            self.encoder = nn.Parameter(self.W_dec.detach().clone())

    def latent_scale(self) -> Tensor | None:
        """Factor from selected pre-activations to features `[d_sae]`; None is 1 everywhere."""
        config = self.cfg.method
        if isinstance(config, RescaledConfig) and config.rescale_acts_by_decoder_norm:
            # No gradient: x̂ does not depend on the norms but through the ranking.
            return self.decoder_norms().detach()
        return None

    def weights_problem(self) -> str | None:
        """What is wrong with weights that have the right shapes, where there is a rule."""
        return None

    # -- folding ---------------------------------------------------------------------------

    def fold_scale(self) -> None:
        """Move `latent_scale` into the encoder and out of the decoder; features stay the same."""
        scale = self.latent_scale()
        if scale is not None:
            self.scale_latents(scale.clone())

    def fold_W_dec_norm(self) -> None:
        """Give every decoder row norm 1; features grow by the norms, reconstructions stay.

        Raises:
            ConfigError: latents compete by their scale, so that others would be active.
        """
        norms = self.decoder_norms().detach().clamp(min=1e-8)
        if self.competitive and self.latent_scale() is None:
            if (norms - 1).abs().max() <= 1e-4:
                return
            raise ConfigError(
                self.architecture,
                ["fold_W_dec_norm: latents compete by their pre-activations, so folding the norms "
                 "of the decoder would make others active; leave it out"],
            )  # fmt: skip
        self.scale_latents(norms)

    def scale_latents(self, factor: Tensor) -> None:
        """Multiply pre-activations by `factor [d_sae]` and divide the decoder by it, in place."""
        self.untie()
        with torch.no_grad():
            self.encoder.mul_(factor[:, None])
            self.W_dec.div_(factor[:, None])
            for name in self.latent_vectors:
                getattr(self, name).mul_(factor)
            for name in self.activation.latent_vectors if self.activation is not None else ():
                getattr(self.activation, name).mul_(factor)

    def shift_preactivations(self, shift: Tensor) -> None:
        """Add `shift [d_sae]` to all pre-activations, in place, whatever the input."""
        with torch.no_grad():
            self.b_enc.add_(shift)

    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Fold factors of the activations into the weights, in place.

        The SAE then reads raw activations and gives raw reconstructions, with features as
        before, but for those that are rescaled by decoder norms.

        Args:
            factor: of the activations that are read, `x * factor`; a number or `[d_in]`.
            out: of those that are reconstructed, a number or `[d_out]`; default: the same.
        """
        out = factor if out is None else out
        self.untie()
        with torch.no_grad():
            self.encoder.mul_(factor)
            self.W_dec.div_(out)
            self.b_dec.div_(out)
        if self.latent_scale() is not None and self.activation is not None:
            self.activation.scale_features(1 / float(out))  # features count decoder norms
