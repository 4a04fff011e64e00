"""The sparse autoencoder: parameters, encode, decode, forward, one training step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from saecore import ops
from saecore.activation import Activation, Encoding
from saecore.codes import Codes
from saecore.config.architecture import ArchitectureConfig, RescaledConfig
from saecore.normalize import RUNTIME, Restore
from saecore.sae_config import SAEConfig, Shape
from saecore.step import Batch, Scheduled, StepContext, StepOutput

__all__ = ["SAE"]


class SAE(nn.Module):
    """Base of every sparse autoencoder; a subclass says which latents are active.

    Parameters (both matrices latent-major and contiguous, because sparse work walks latents):
        encoder: `[d_sae, d_in]`; `W_enc [d_in, d_sae]` is its transpose view.
        b_enc: `[d_sae]`.
        W_dec: `[d_sae, d_out]`.
        b_dec: `[d_out]`.

    A subclass sets `architecture` and `self.activation`, or implements `select`. Features are
    `values of select * latent_scale`, and the reconstruction is `features / latent_scale @ W_dec
    + b_dec`. Other parameters: override `parameter_sizes`.

    Args:
        config: the architecture's settings.
        shape: sizes, precision and place of the weights.
    """

    architecture: ClassVar[str]
    """The name in experiment files and in cfg.json."""
    saved_fields: ClassVar[tuple[str, ...] | None] = None
    """Settings that cfg.json keeps for inference; None keeps them all."""
    several_hooks: ClassVar[bool] = False
    """Whether it reads several hooks at once."""
    separate_target: ClassVar[bool] = False
    """Whether it may reconstruct another hook than the one it reads."""
    several_targets: ClassVar[bool] = False
    """Whether it reconstructs several other hooks, one for each that it reads."""
    training_fields: ClassVar[frozenset[str]] = frozenset({"decoder_init_norm"})
    """Keys of cfg.json that only matter to training (the reference's names); ignored on load."""

    file_defaults: ClassVar[Mapping[str, Any]] = {"rescale_acts_by_decoder_norm": False}
    """What it means when a key is missing in cfg.json, where that is not the field's default."""
    training_state: ClassVar[tuple[str, ...]] = ()
    """Buffers that checkpoints keep and published files do not."""
    own_normalizations: ClassVar[tuple[str, ...]] = ()
    """Values of normalize_activations that only this architecture knows."""
    latent_vectors: ClassVar[tuple[str, ...]] = ("b_enc",)
    """Parameters `[d_sae]` in the unit of pre-activations; they scale with them."""
    encoder: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter
    activation: Activation | None

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
        self._restore: Restore | None = None

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Names and sizes of the parameters; all begin as zeros."""
        return {
            "encoder": (shape.d_sae, shape.d_in),
            "b_enc": (shape.d_sae,),
            "W_dec": (shape.d_sae, shape.d_out),
            "b_dec": (shape.d_out,),
        }

    @classmethod
    def file_sizes(cls, config: Any, d_sae: int) -> set[int]:
        """Sizes of saved tensors besides d_in, d_out and d_sae."""
        return set()

    # -- weights ---------------------------------------------------------------------------

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

    @property
    def coefficient(self) -> str | None:
        """Name of the scheduled value that a target-L0 controller may move, if there is one."""
        return None if self.activation is None else self.activation.coefficient

    @property
    def file_architecture(self) -> str:
        """The architecture's name in cfg.json."""
        return self.architecture

    @property
    def rank_by_abs(self) -> bool:
        """Whether latents compete by absolute value."""
        return self.activation is not None and self.activation.rank_by_abs

    # -- forward ---------------------------------------------------------------------------

    def encoding(self, x: Tensor) -> Encoding:
        """The encoder over `x [N, d_in]`, for an activation to choose from."""
        return Encoding(
            x, self.W_enc, self.b_enc, self.centre, self.latent_scale(), self.decoder_norms
        )

    def select(self, x: Tensor) -> Codes:
        """The active latents of `x [N, d_in]`, before `latent_scale`."""
        assert self.activation is not None, "an SAE sets self.activation or implements select"
        return self.activation.select(self.encoding(x))

    def reconstruct(self, codes: Codes, x: Tensor) -> Tensor:
        """Reconstruction `[N, d_out]` from what `select` gave for `x [N, d_in]`."""
        return ops.decode(codes, self.W_dec, self.b_dec)

    def encode_sparse(self, x: Tensor) -> Codes:
        """Features of `x [..., d_in]`, leading dimensions flattened to rows."""
        codes = self.select(self._flat(x)[0])
        scale = self.latent_scale()
        return codes if scale is None else codes.with_values(codes.values * codes.per_latent(scale))

    def encode(self, x: Tensor, latents: Tensor | None = None) -> Tensor:
        """Features of `x [..., d_in]`: all `[..., d_sae]`, or those of `latents [n]` `[..., n]`."""
        rows = self._joined(x)
        dense = self.encode_sparse(rows).dense(latents)
        if self.cfg.normalize_activations in RUNTIME:
            self._restore = self._scaled(rows)[1]
        return dense.reshape(*rows.shape[:-1], dense.shape[-1])

    def decode(self, features: Tensor | Codes) -> Tensor:
        """Reconstruction from features `[..., d_sae]` or Codes: `[..., d_out]`.

        Where every activation was scaled by its own norm (`normalize_activations`), the scale
        is that of the last `encode`, whose activations must be the same.
        """
        scale = self.latent_scale()
        if isinstance(features, Codes):
            codes = features
            if scale is not None:
                codes = codes.with_values(codes.values / codes.per_latent(scale))
            out = ops.decode(codes, self.W_dec, self.b_dec)
        else:
            unscaled = features if scale is None else features / scale
            out = unscaled @ self.W_dec + self.b_dec
        return out if self._restore is None else self._restore(out)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of `x [..., d_in]`: `[..., d_out]`.

        `[..., heads, d_head]` where hook_z is flattened, and `[..., hooks, d]` where several hooks
        are read, come out as they came in.
        """
        rows = self._joined(x)
        scaled, restore = self._flat(rows)
        out = self.reconstruct(self.select(scaled), scaled)
        out = (out if restore is None else restore(out)).reshape(*rows.shape[:-1], self.cfg.d_out)
        if rows is x or (self.cfg.d_out != self.cfg.d_in and not self.several_hooks):
            return out
        # What was joined (d_in of several parts) is parted again (d_out of as many).
        return out.reshape(*x.shape[:-1], self.cfg.d_out * x.shape[-1] // self.cfg.d_in)

    def preactivations(self, x: Tensor, latents: Tensor) -> Tensor:
        """Pre-activations of some latents `[n]` for `x [N, d_in]`: `[N, n]`."""
        return self.encoding(x).preactivations(latents)

    def _joined(self, x: Tensor) -> Tensor:
        """Flatten `[..., heads, d_head]` (hook_z) or `[..., hooks, d]` to `[..., d_in]`."""
        joins = self.several_hooks or self.cfg.reshape_activations == "hook_z"
        if joins and x.dim() > 1 and x.shape[-1] != self.cfg.d_in:
            x = x.flatten(-2)
        if x.shape[-1] != self.cfg.d_in:
            raise ValueError(
                f"this SAE reads activations of size d_in = {self.cfg.d_in}, got {list(x.shape)}"
            )
        return x.to(self.W_dec.dtype)

    def _scaled(self, x: Tensor) -> tuple[Tensor, Restore | None]:
        normalization = RUNTIME.get(self.cfg.normalize_activations)
        return (x, None) if normalization is None else normalization(x)

    def _flat(self, x: Tensor) -> tuple[Tensor, Restore | None]:
        """Rows `[N, d_in]` as the encoder takes them, and the way back."""
        return self._scaled(self._joined(x).reshape(-1, self.cfg.d_in))

    # -- training --------------------------------------------------------------------------

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """Losses of one batch; a subclass adds its own to the reconstruction loss."""
        losses: dict[str, Tensor] = {}
        if self.activation is None:
            codes = self.select(batch.inputs)
        else:
            codes, losses = self.activation.train_select(self.encoding(batch.inputs), context)
        x_hat = self.reconstruct(codes, batch.inputs)
        return StepOutput({"mse_loss": context.reconstruction_loss(x_hat), **losses}, codes, x_hat)

    def scheduled(self) -> Mapping[str, Scheduled]:
        """Values of the training step that follow a schedule, by name."""
        return {} if self.activation is None else self.activation.scheduled()

    def after_step(self) -> None:
        """Restore constraints after an optimizer step, in place."""

    def training_details(self) -> dict[str, Any]:
        """Settings that only training used, under the reference's names (see `training_fields`)."""
        saved = self.saved_fields or ()
        return {
            one.name: getattr(self.cfg.method, one.name)
            for one in attrs.fields(type(self.cfg.method))
            if one.name in self.training_fields and one.name not in saved
        }

    # -- result ----------------------------------------------------------------------------

    def to_inference(self) -> SAE:
        """A copy in the form that is published: factors of the features are in the weights."""
        result = copy.deepcopy(self)
        result.zero_grad(set_to_none=True)
        result.fold_scale()
        if result.activation is not None:
            result.activation = result.activation.to_inference(self.cfg.d_sae)
        result.cfg = attrs.evolve(result.cfg, inference=True)
        return result

    def fold_scale(self) -> None:
        """Move `latent_scale` into the encoder and out of the decoder; features stay the same."""
        scale = self.latent_scale()
        if scale is not None:
            self.scale_latents(scale.clone())

    def fold_W_dec_norm(self) -> None:
        """Give every decoder row norm 1; features grow by the norms, reconstructions stay."""
        self.scale_latents(self.decoder_norms().detach().clamp(min=1e-8))

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

    def save_model(self, path: str | Path, sparsity: Tensor | None = None) -> None:
        """Write cfg.json, sae_weights.safetensors and, where given, sparsity.safetensors.

        Args:
            path: the directory.
            sparsity: log10 of each latent's firing frequency `[d_sae]`.

        Raises:
            CheckpointError: the directory cannot be written.
        """
        from saecore.saved import write_sae

        write_sae(self, Path(path), sparsity)

    @staticmethod
    def load_from_disk(
        path: str | Path, device: str | torch.device = "cpu", dtype: str | None = None
    ) -> SAE:
        """Read an SAE that saecore or SAELens 6 has saved.

        Args:
            path: the directory with cfg.json and sae_weights.safetensors.
            device: where the weights go.
            dtype: precision; default: the file's.

        Raises:
            ReleaseError: a file is missing, or the files contradict each other.
        """
        from saecore.saved import read_sae

        return read_sae(Path(path), torch.device(device), dtype)
