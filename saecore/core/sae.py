"""The sparse autoencoder: encode, decode, forward, one training step, inference form."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, final

import attrs
from torch import Tensor

from saecore import ops
from saecore.core.activation import PreActivations
from saecore.core.file_form import FileForm
from saecore.core.forward_parts import ForwardParts
from saecore.core.normalizer import RUNTIME, Restore
from saecore.core.parameters import SAEParameters
from saecore.core.sae_config import Shape
from saecore.core.sae_files import SAEFiles
from saecore.core.schedule import Scheduled
from saecore.core.step import Batch, StepContext, StepOutput
from saecore.ops.codes import Codes

__all__ = ["SAE"]


class SAE(SAEParameters, SAEFiles):
    """Base class of every sparse autoencoder; a subclass decides which latents are active.

    The forward pass, from activations to their reconstruction:

        x [..., d_in] -> normalize -> select -> codes: the active latents of each row
        codes -> decode_codes, plus skip_term -> restore (undoes normalize) -> x̂ [..., d_out]

    `encode` returns features, which are codes times `latent_scale`. A subclass sets
    `architecture` and either `self.activation` or `select`; docs/explanation/sae-class.md lists
    everything else that it may override.

    Args:
        config: the architecture's settings.
        shape: sizes, precision and device of the weights.
    """

    file_form: ClassVar[FileForm] = FileForm()
    """How the SAE is written to cfg.json and the weights file."""
    several_hooks: ClassVar[bool] = False
    """Whether it reads several hooks at once."""
    separate_target: ClassVar[bool] = False
    """Whether it may reconstruct a different hook from the one it reads."""
    several_targets: ClassVar[bool] = False
    """Whether it reconstructs several other hooks, one for each that it reads."""
    reads_contexts: ClassVar[bool] = False
    """Whether a token's features depend on the tokens before it."""

    last_restore: Restore | None
    """Undoes the `normalize` of the last `encode` or `encode_sparse`, for `decode`; None where
    the SAE does not normalize its input."""

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.last_restore = None

    @property
    def coefficient(self) -> str | None:
        """Name of the scheduled value that a target-L0 controller may change, if there is one."""
        return None if self.activation is None else self.activation.coefficient

    @property
    def rank_by_abs(self) -> bool:
        """Whether latents compete by absolute value."""
        return self.activation is not None and self.activation.rank_by_abs

    # -- forward ---------------------------------------------------------------------------

    def normalize(self, x: Tensor) -> tuple[Tensor, Restore | None]:
        """Normalize each activation of `x [..., d_in]`; also return the inverse, if any."""
        normalization = RUNTIME.get(self.cfg.normalize_activations)
        return (x, None) if normalization is None else normalization(x)

    def encoding(self, x: Tensor) -> PreActivations:
        """The encoder over `x [N, d_in]`, for an activation to choose from."""
        return PreActivations(
            x=x,
            W_enc=self.W_enc,
            b_enc=self.b_enc,
            center=self.center,
            scale=self.ranking_scale(),
            decoder_norms=self.decoder_norms,
        )

    def select(self, x: Tensor) -> Codes:
        """Codes: the active latents of `x [N, d_in]` and their values before `latent_scale`."""
        assert self.activation is not None, "an SAE sets self.activation or implements select"
        return self.activation.select(self.encoding(x))

    def decode_codes(self, codes: Tensor | Codes) -> Tensor:
        """Apply the decoder to codes `[..., d_sae]`: `codes @ W_dec + b_dec`, `[..., d_out]`."""
        if isinstance(codes, Codes):
            return ops.decode(codes, self.W_dec, self.b_dec)
        return codes @ self.W_dec + self.b_dec

    def skip_term(self, x: Tensor) -> Tensor | None:
        """What reconstructions of `x [N, d_in]` add to the decoded codes, `[N, d_out]`."""
        return None

    @final
    def reconstruct(self, codes: Codes, x: Tensor) -> Tensor:
        """Reconstruction `[N, d_out]` from the codes of `x [N, d_in]`, both normalized."""
        skip_term = self.skip_term(x)
        decoded = self.decode_codes(codes)
        return decoded if skip_term is None else decoded + skip_term

    def encode_sparse(self, x: Tensor) -> Codes:
        """Features of `x [..., d_in]`, leading dimensions flattened to rows."""
        rows, self.last_restore = self._rows(x)
        return self._features(rows)

    def encode(self, x: Tensor, latents: Tensor | None = None) -> Tensor:
        """Features of `x [..., d_in]`: all `[..., d_sae]`, or those of `latents [n]` `[..., n]`."""
        joined = self._joined(x)
        dense = self.encode_sparse(joined).dense(latents)
        self.last_restore = self.normalize(joined)[1]
        return dense.reshape(*joined.shape[:-1], dense.shape[-1])

    @final
    def decode(self, features: Tensor | Codes) -> Tensor:
        """Reconstruction from features `[..., d_sae]` or Codes: `[..., d_out]`, no skip term.

        An SAE that normalizes each activation (`normalize_activations`) needs the norms back.
        As in SAELens, `decode` takes those of the last `encode` or `encode_sparse` call
        (`last_restore`), which must have read the same activations. `decompose(x).decode(features)`
        depends on no earlier call.
        """
        if not isinstance(features, Codes):
            _check_tensor(features)
        x_hat = self.decode_codes(self.unscale(features))
        return x_hat if self.last_restore is None else self.last_restore(x_hat)

    def decompose(self, x: Tensor) -> ForwardParts:
        """The forward pass of `x [..., d_in]` in parts, so that features can be edited in it."""
        rows, restore = self._rows(x)
        return ForwardParts(
            sae=self,
            inputs=rows,
            features=self._features(rows),
            skip_term=self.skip_term(rows),
            restore=restore,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of `x [..., d_in]`: `[..., d_out]`.

        `[..., heads, d_head]` (hook_z) and `[..., hooks, d]` (several hooks) keep their shape.
        """
        joined = self._joined(x)
        rows, restore = self._rows(joined)
        x_hat = self.reconstruct(self.select(rows), rows)
        x_hat = x_hat if restore is None else restore(x_hat)
        x_hat = x_hat.reshape(*joined.shape[:-1], self.cfg.d_out)
        if joined is x or (self.cfg.d_out != self.cfg.d_in and not self.several_hooks):
            return x_hat
        # d_in joins several parts; d_out is split into as many.
        return x_hat.reshape(*x.shape[:-1], self.cfg.d_out * x.shape[-1] // self.cfg.d_in)

    def preactivations(self, x: Tensor, latents: Tensor) -> Tensor:
        """Pre-activations of some latents `[n]` for `x [N, d_in]`: `[N, n]`."""
        return self.encoding(x).preactivations(latents)

    def all_preactivations(self, x: Tensor) -> Tensor | None:
        """All pre-activations `[N, d_sae]`; None if features take more than one encoder pass."""
        return self.encoding(x).dense()

    def _features(self, rows: Tensor) -> Codes:
        codes, scale = self.select(rows), self.latent_scale()
        return codes if scale is None else codes.with_values(codes.values * codes.per_latent(scale))

    @final
    def unscale(self, features: Tensor | Codes) -> Tensor | Codes:
        """Codes from features: divide `[..., d_sae]` or Codes by `latent_scale`."""
        scale = self.latent_scale()
        if scale is None:
            return features
        if isinstance(features, Codes):
            return features.with_values(features.values / features.per_latent(scale))
        return features / scale

    def _joined(self, x: Tensor) -> Tensor:
        """Flatten `[..., heads, d_head]` (hook_z) or `[..., hooks, d]` to `[..., d_in]`."""
        _check_tensor(x)
        joins = self.several_hooks or self.cfg.reshape_activations == "hook_z"
        if joins and x.dim() > 1 and x.shape[-1] != self.cfg.d_in:
            x = x.flatten(-2)
        if x.shape[-1] != self.cfg.d_in:
            raise ValueError(
                f"this SAE reads activations of size d_in = {self.cfg.d_in}, got {list(x.shape)}"
            )
        return x.to(self.W_dec.dtype)

    def _rows(self, x: Tensor) -> tuple[Tensor, Restore | None]:
        """Normalized rows `[N, d_in]` of `x [..., d_in]`, and the inverse of the normalization."""
        return self.normalize(self._joined(x).reshape(-1, self.cfg.d_in))

    # -- training --------------------------------------------------------------------------

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """Losses of one batch; a subclass adds to the reconstruction loss."""
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
        """Restore constraints on the weights after an optimizer step, in place."""

    # -- result ----------------------------------------------------------------------------

    def to_inference(self, *, in_place: bool = False) -> SAE:
        """Return the SAE in the form that is published: factors of the features are folded.

        Args:
            in_place: convert this SAE instead of a copy, which saves the memory of the copy; use
                only the returned SAE afterwards.
        """
        result = self if in_place else copy.deepcopy(self)
        result.zero_grad(set_to_none=True)
        result.fold_scale()
        if result.activation is not None:
            result.activation = result.activation.to_inference(self.cfg.d_sae)
        result.cfg = attrs.evolve(result.cfg, inference=True)
        return result


def _check_tensor(x: object) -> None:
    """Refuse NumPy arrays and lists, whose methods would fail with a riddle."""
    if not isinstance(x, Tensor):
        kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
        raise TypeError(f"expected a torch.Tensor, got {kind}; torch.as_tensor(x) makes one")
