"""The sparse autoencoder: parameters, encode, decode, forward, one training step."""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from saecore import ops
from saecore.codes import Codes
from saecore.config.architecture import ArchitectureConfig
from saecore.sae_config import SAEConfig, Shape
from saecore.step import Batch, Scheduled, StepContext, StepOutput

__all__ = ["SAE"]


class SAE(nn.Module, abc.ABC):
    """Base of every sparse autoencoder; a subclass says which latents are active.

    Parameters (both matrices latent-major and contiguous, because sparse work walks latents):
        encoder: `[d_sae, d_in]`; `W_enc [d_in, d_sae]` is its transpose view.
        b_enc: `[d_sae]`.
        W_dec: `[d_sae, d_out]`.
        b_dec: `[d_out]`.

    A subclass sets `architecture` and implements `select`. Features are
    `values of select * latent_scale`, and the reconstruction is `features / latent_scale @ W_dec
    + b_dec`.

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
    training_fields: ClassVar[frozenset[str]] = frozenset()
    """Keys of cfg.json that only matter to training (the reference's names); ignored on load."""

    encoder: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter

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
        )

        def parameter(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(size, dtype=shape.dtype, device=shape.device))

        self.encoder = parameter(shape.d_sae, shape.d_in)
        self.b_enc = parameter(shape.d_sae)
        self.W_dec = parameter(shape.d_sae, shape.d_out)
        self.b_dec = parameter(shape.d_out)

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

    def initialize(self, generator: torch.Generator, decoder_norm: float) -> None:
        """Start from random directions: decoder rows of one norm, the encoder their transpose.

        Args:
            generator: source of the numbers, on the CPU.
            decoder_norm: norm of every decoder row.
        """
        with torch.no_grad():
            rows = torch.randn(self.W_dec.shape, generator=generator)
            rows *= decoder_norm / rows.norm(dim=1, keepdim=True)
            self.W_dec.copy_(rows)
            if self.cfg.d_in == self.cfg.d_out:
                self.encoder.copy_(rows)
            else:
                fresh = torch.randn(self.encoder.shape, generator=generator)
                self.encoder.copy_(fresh * (decoder_norm / fresh.norm(dim=1, keepdim=True)))
            self.b_enc.zero_()
            self.b_dec.zero_()

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
        if self.encoder is self.W_dec:
            self.encoder = nn.Parameter(self.W_dec.detach().clone())

    def latent_scale(self) -> Tensor | None:
        """Factor from selected pre-activations to features `[d_sae]`; None is 1 everywhere."""
        return None

    rank_by_abs: ClassVar[bool] = False
    """Whether latents compete by absolute value."""

    # -- forward ---------------------------------------------------------------------------

    @abc.abstractmethod
    def select(self, x: Tensor) -> Codes:
        """The active latents of `x [N, d_in]`, before `latent_scale`."""

    def encode_sparse(self, x: Tensor) -> Codes:
        """Features of `x [..., d_in]`, leading dimensions flattened to rows."""
        codes = self.select(self._flat(x))
        scale = self.latent_scale()
        return codes if scale is None else codes.with_values(codes.values * codes.per_latent(scale))

    def encode(self, x: Tensor, latents: Tensor | None = None) -> Tensor:
        """Features of `x [..., d_in]`: all `[..., d_sae]`, or those of `latents [n]` `[..., n]`."""
        rows = self._joined(x)
        dense = self.encode_sparse(rows).dense(latents)
        return dense.reshape(*rows.shape[:-1], dense.shape[-1])

    def decode(self, features: Tensor | Codes) -> Tensor:
        """Reconstruction from features `[..., d_sae]` or Codes: `[..., d_out]`."""
        scale = self.latent_scale()
        if isinstance(features, Codes):
            codes = features
            if scale is not None:
                codes = codes.with_values(codes.values / codes.per_latent(scale))
            return ops.decode(codes, self.W_dec, self.b_dec)
        unscaled = features if scale is None else features / scale
        return unscaled @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of `x [..., d_in]`; `[..., heads, d_head]` where hook_z is flattened."""
        rows = self._joined(x)
        decoded = ops.decode(self.select(self._flat(rows)), self.W_dec, self.b_dec)
        out = decoded.reshape(*rows.shape[:-1], self.cfg.d_out)
        return out if rows is x else out.reshape(x.shape)

    def preactivations(self, x: Tensor, latents: Tensor) -> Tensor:
        """Pre-activations of some latents `[n]` for `x [N, d_in]`: `[N, n]`."""
        return ops.preactivations(x, self.W_enc, self.b_enc, latents, centre=self.centre)

    def _joined(self, x: Tensor) -> Tensor:
        """Flatten `[..., heads, d_head]` to `[..., d_in]` where the SAE reads hook_z."""
        if self.cfg.reshape_activations == "hook_z" and x.shape[-1] != self.cfg.d_in:
            x = x.flatten(-2)
        if x.shape[-1] != self.cfg.d_in:
            raise ValueError(
                f"this SAE reads activations of size d_in = {self.cfg.d_in}, got {list(x.shape)}"
            )
        return x.to(self.W_dec.dtype)

    def _flat(self, x: Tensor) -> Tensor:
        return self._joined(x).reshape(-1, self.cfg.d_in)

    # -- training --------------------------------------------------------------------------

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """Losses of one batch; a subclass adds its own to the reconstruction loss."""
        codes = self.select(batch.inputs)
        x_hat = ops.decode(codes, self.W_dec, self.b_dec)
        return StepOutput({"mse_loss": context.reconstruction_loss(x_hat)}, codes, x_hat)

    def scheduled(self) -> Mapping[str, Scheduled]:
        """Values of the training step that follow a schedule, by name."""
        return {}

    def after_step(self) -> None:
        """Restore constraints after an optimizer step, in place."""

    def training_details(self) -> dict[str, Any]:
        """Settings that only training used, recorded in the saved SAE's metadata."""
        saved = self.saved_fields or ()
        return {
            one.name: getattr(self.cfg.method, one.name)
            for one in attrs.fields(type(self.cfg.method))
            if self.saved_fields is not None
            and one.name not in (*saved, "apply_b_dec_to_input")
            and isinstance(getattr(self.cfg.method, one.name), int | float | str)
        }

    # -- result ----------------------------------------------------------------------------

    def to_inference(self) -> SAE:
        """A copy in the form that is published: factors of the features are in the weights."""
        result = copy.deepcopy(self)
        result.zero_grad(set_to_none=True)
        result.fold_scale()
        return result

    def fold_scale(self) -> None:
        """Move `latent_scale` into the encoder and out of the decoder; features stay the same."""
        scale = self.latent_scale()
        if scale is not None:
            self.untie()
            with torch.no_grad():
                scale = scale.clone()
                self.encoder.mul_(scale[:, None])
                self.b_enc.mul_(scale)
                self.W_dec.div_(scale[:, None])

    def scale_input(self, factor: float) -> None:
        """Fold a factor of the activations, `x * factor`, into the weights, in place.

        The SAE then reads raw activations and gives raw reconstructions, with features as before.
        """
        self.untie()
        with torch.no_grad():
            self.encoder.mul_(factor)
            self.W_dec.div_(factor)
            self.b_dec.div_(factor)

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
