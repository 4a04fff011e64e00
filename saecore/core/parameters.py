"""The weights of an SAE: parameters, initialization, and folding of scales into them."""

from __future__ import annotations

from typing import Any, ClassVar, Self, final

import attrs
import torch
from torch import Tensor, nn

from saecore.core.activation import Activation
from saecore.core.architecture_config import ArchitectureConfig, RescaledConfig
from saecore.core.sae_config import SAEConfig, Shape
from saecore.errors import ConfigError


class SAEParameters(nn.Module):
    """The parameters of an SAE; `SAE` adds the computation.

    Both matrices are latent-major and contiguous, because sparse kernels read them by latent:
        encoder: `[d_sae, d_in]`; `W_enc [d_in, d_sae]` is its transpose view.
        b_enc: `[d_sae]`.
        W_dec: `[d_sae, d_out]`.
        b_dec: `[d_out]`.
    """

    architecture: ClassVar[str]
    """The name in experiment files and in cfg.json."""
    latent_vectors: ClassVar[tuple[str, ...]] = ("b_enc",)
    """Parameters `[d_sae]` in units of pre-activations, which scale with them."""

    encoder: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter
    activation: Activation | None

    @property
    def competitive(self) -> bool:
        """Whether latents compete: scaling one may change which others are active."""
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
            architecture_config=config,
            hooks=shape.hooks,
        )

        device = shape.device if shape.allocate else "meta"
        for name, size in self.parameter_sizes(shape).items():
            tensor = torch.zeros(size, dtype=shape.dtype, device=device)
            self.register_parameter(name, nn.Parameter(tensor))
        self.activation = None

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Names and sizes of the parameters, which are initialized to zero."""
        return {
            "encoder": (shape.d_sae, shape.d_in),
            "b_enc": (shape.d_sae,),
            "W_dec": (shape.d_sae, shape.d_out),
            "b_dec": (shape.d_out,),
        }

    @final
    def shape(self, allocate: bool = True) -> Shape:
        """Sizes, precision and device of the weights, to build another SAE like this one."""
        cfg, W_dec = self.cfg, self.W_dec
        return Shape(
            cfg.d_in,
            cfg.d_out,
            cfg.d_sae,
            dtype=W_dec.dtype,
            device=W_dec.device,
            hooks=cfg.hooks,
            allocate=allocate,
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move or convert the weights (`to`, `half`, `cuda`, …); `cfg` follows them."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        W_dec = self.W_dec
        dtype, device = str(W_dec.dtype).removeprefix("torch."), str(W_dec.device)
        if (dtype, device) != (self.cfg.dtype, self.cfg.device):
            self.cfg = attrs.evolve(self.cfg, dtype=dtype, device=device)
        return self

    @property
    def W_enc(self) -> Tensor:
        """The encoder in its usual orientation, `[d_in, d_sae]`: a view of `encoder`."""
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
        """Initialize with random directions and zero biases.

        Args:
            generator: source of the numbers, on the CPU.
            decoder_norm: norm of every decoder row.
            tied: initialize the encoder as the decoder's transpose if their sizes agree;
                otherwise with independent directions of the same norm.
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
    def center(self) -> Tensor | None:
        """What is subtracted from the input `[d_in]`, if anything: by default b_dec."""
        config = self.cfg.architecture_config
        subtract = isinstance(config, ArchitectureConfig) and config.apply_b_dec_to_input
        return self.b_dec if subtract else None

    @final
    def untie(self) -> None:
        """Give the encoder separate weights if a subclass has set `encoder = W_dec`.

        Folding changes the two in different ways.
        """
        if self._parameters.get("encoder") is self.W_dec:
            self.encoder = nn.Parameter(self.W_dec.detach().clone())

    def latent_scale(self) -> Tensor | None:
        """Factor from selected pre-activations to features `[d_sae]`; None means 1."""
        config = self.cfg.architecture_config
        if isinstance(config, RescaledConfig) and config.rescale_acts_by_decoder_norm:
            # No gradient: x̂ depends on the norms only through the ranking.
            return self.decoder_norms().detach()
        return None

    def ranking_scale(self) -> Tensor | None:
        """Factor of pre-activations for ranking latents `[d_sae]`; None means 1."""
        return self.latent_scale()

    def weights_problem(self) -> str | None:
        """What is wrong with loaded weights of the right shapes; None if they are valid."""
        return None

    # -- folding ---------------------------------------------------------------------------

    def fold_scale(self) -> None:
        """Move `latent_scale` into the encoder and out of the decoder; features stay the same."""
        scale = self.latent_scale()
        if scale is not None:
            self.scale_latents(scale.clone())

    def fold_W_dec_norm(self) -> None:
        """Scale decoder rows to norm 1; features grow by the norms, reconstructions stay.

        Raises:
            ConfigError: latents compete by scale, so folding would change which are active.
        """
        norms = self.decoder_norms().detach().clamp(min=1e-8)
        if self.competitive and self.ranking_scale() is None:
            if (norms - 1).abs().max() <= 1e-4:
                return
            raise ConfigError(
                ["fold_W_dec_norm: latents compete by their pre-activations, so folding the "
                 "decoder norms would change which are active; remove the option"],
                label=self.architecture,
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
        """Add `shift [d_sae]` to the pre-activations of every input, in place."""
        with torch.no_grad():
            self.b_enc.add_(shift)

    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Fold factors of the activations into the weights, in place.

        The SAE then reads raw activations and returns raw reconstructions. Features do not
        change, except those that are rescaled by decoder norms.

        Args:
            factor: of the inputs, `x * factor`; a number or `[d_in]`.
            out: of the targets, a number or `[d_out]`; default: `factor`.
        """
        out = factor if out is None else out
        self.untie()
        with torch.no_grad():
            self.encoder.mul_(factor)
            self.W_dec.div_(out)
            self.b_dec.div_(out)
        if self.latent_scale() is not None and self.activation is not None:
            self.activation.scale_features(1 / float(out))  # features include decoder norms
