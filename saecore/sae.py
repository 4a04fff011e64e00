"""The sparse autoencoder: parameters, encode, decode, forward, one training step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import torch
from torch import Tensor

from saecore import ops
from saecore.activation import Encoding
from saecore.codes import Codes
from saecore.decomposition import Decomposition
from saecore.normalize import RUNTIME, Restore
from saecore.sae_config import Shape
from saecore.step import Batch, Scheduled, StepContext, StepOutput
from saecore.weights import Weights

if TYPE_CHECKING:
    from saecore.releases.load import Loaded

__all__ = ["SAE"]


class SAE(Weights):
    """Base of every sparse autoencoder; a subclass says which latents are active.

    Parameters, as `Weights` has them: encoder `[d_sae, d_in]` (`W_enc [d_in, d_sae]` is its view),
    b_enc `[d_sae]`, W_dec `[d_sae, d_out]`, b_dec `[d_out]`.

    A subclass sets `architecture` and `self.activation`, or implements `select`. Features are
    `values of select * latent_scale`, and the reconstruction is `features / latent_scale @ W_dec
    + b_dec`. Other parameters: override `parameter_sizes`.

    Args:
        config: the architecture's settings.
        shape: sizes, precision and place of the weights.
    """

    saved_fields: ClassVar[tuple[str, ...] | None] = None
    """Settings that cfg.json keeps for inference; None keeps them all."""
    several_hooks: ClassVar[bool] = False
    """Whether it reads several hooks at once."""
    separate_target: ClassVar[bool] = False
    """Whether it may reconstruct another hook than the one it reads."""
    several_targets: ClassVar[bool] = False
    """Whether it reconstructs several other hooks, one for each that it reads."""
    reads_contexts: ClassVar[bool] = False
    """Whether what it makes of a token depends on the tokens before it."""
    training_fields: ClassVar[frozenset[str]] = frozenset({"decoder_init_norm"})
    """Keys of cfg.json that only matter to training (the reference's names); ignored on load."""

    file_defaults: ClassVar[Mapping[str, Any]] = {"rescale_acts_by_decoder_norm": False}
    """What it means when a key is missing in cfg.json, where that is not the field's default."""
    file_variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings that a prefix of the architecture's name in cfg.json stands for: of what SAELens
    does not have, so that it refuses the file rather than read it wrongly."""
    training_state: ClassVar[tuple[str, ...]] = ()
    """Buffers that checkpoints keep and published files do not."""
    own_normalizations: ClassVar[tuple[str, ...]] = ()
    """Values of normalize_activations that only this architecture knows."""

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self._restore: Restore | None = None

    @classmethod
    def file_sizes(cls, config: Any, d_sae: int) -> set[int]:
        """Sizes of saved tensors besides d_in, d_out and d_sae."""
        return set()

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
            x, self.W_enc, self.b_enc, self.centre, self.ranking_scale(), self.decoder_norms
        )

    def select(self, x: Tensor) -> Codes:
        """The active latents of `x [N, d_in]`, before `latent_scale`."""
        assert self.activation is not None, "an SAE sets self.activation or implements select"
        return self.activation.select(self.encoding(x))

    def reconstruct(self, codes: Codes, x: Tensor) -> Tensor:
        """Reconstruction `[N, d_out]` from what `select` gave for `x [N, d_in]`."""
        return ops.decode(codes, self.W_dec, self.b_dec)

    def beside(self, x: Tensor) -> Tensor | None:
        """What reconstructions of `x [N, d_in]` have beside decoded features `[N, d_out]`."""
        return None

    def encode_sparse(self, x: Tensor) -> Codes:
        """Features of `x [..., d_in]`, leading dimensions flattened to rows."""
        return self._features(self._flat(x)[0])

    def _features(self, x: Tensor) -> Codes:
        codes = self.select(x)
        scale = self.latent_scale()
        return codes if scale is None else codes.with_values(codes.values * codes.per_latent(scale))

    def decompose(self, x: Tensor) -> Decomposition:
        """The forward pass of `x [..., d_in]` in parts, so that features can be changed in it."""
        rows, restore = self._flat(x)
        return Decomposition(self, rows, self._features(rows), self.beside(rows), restore)

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
        out = self.decode_scaled(features)
        return out if self._restore is None else self._restore(out)

    def decode_scaled(self, features: Tensor | Codes) -> Tensor:
        """The same in the unit that the encoder reads: `features @ W_dec + b_dec`."""
        scale = self.latent_scale()
        if isinstance(features, Codes):
            codes = features
            if scale is not None:
                codes = codes.with_values(codes.values / codes.per_latent(scale))
            return ops.decode(codes, self.W_dec, self.b_dec)
        unscaled = features if scale is None else features / scale
        return unscaled @ self.W_dec + self.b_dec

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

    def all_preactivations(self, x: Tensor) -> Tensor | None:
        """All of them, `[N, d_sae]`; None where features do not come from one encoder pass."""
        return self.encoding(x).dense()

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
        """Read an SAE from a directory, or from a file of a format that keeps it in one.

        What saecore and SAELens 6 have saved is read as it is; other formats are recognised by
        their files and read by the release plugins (`saecore plugins`).

        Args:
            path: the directory or file.
            device: where the weights go.
            dtype: precision; default: the file's.

        Raises:
            ReleaseError: a file is missing, the files contradict each other, or no format or
                several recognise them.
        """
        from saecore.saved import read_sae

        return read_sae(Path(path), torch.device(device), dtype)

    @staticmethod
    def from_pretrained(
        release: str,
        sae_id: str = "",
        device: str | torch.device = "cpu",
        *,
        dtype: str | None = "float32",
        revision: str | None = None,
        force_download: bool = False,
        fold_W_dec_norm: bool = False,
        source: str | None = None,
    ) -> Loaded:
        """Load a published SAE: `sae, cfg_dict, sparsity = SAE.from_pretrained(release, sae_id)`.

        Args:
            release: a release of a catalogue (`saecore releases` lists them), a repository of the
                hub, `username/repo-name`, or a directory.
            sae_id: the SAE's name in the release, or its path in the repository or directory.
            device: where the weights go.
            dtype: precision, whatever the file's is; None takes the file's.
            revision: branch, tag or commit of the repository; the commit is recorded in the
                metadata.
            force_download: download again what is in the cache.
            fold_W_dec_norm: give decoder rows norm 1; features grow by the norms.
            source: the plugin that reads the format; default: what the catalogue says, or what
                recognises the files.

        Returns:
            The SAE, its configuration as SAELens 6 writes it, and log10 of each latent's firing
            frequency `[d_sae]` where it was published, else None.

        Raises:
            ReleaseError: nothing or several things are called so, files cannot be had or do not
                fit each other, or the SAE could only be read wrongly.
        """
        from saecore.releases.load import load
        from saecore.releases.names import find

        place = find(release, sae_id, revision=revision, force_download=force_download)
        return load(
            place.files,
            place.path,
            facts=place.facts,
            source=source or place.source,
            device=device,
            dtype=dtype,
            fold_W_dec_norm=fold_W_dec_norm,
        )

    from_pretrained_with_cfg_and_sparsity = from_pretrained
