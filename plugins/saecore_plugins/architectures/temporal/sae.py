"""The temporal SAE."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from saecore.codes import Codes
from saecore.decomposition import Decomposition
from saecore.errors import ConfigError
from saecore.normalize import RUNTIME, Restore
from saecore.sae import SAE
from saecore.sae_config import Shape
from saecore.step import Batch, StepContext, StepOutput
from saecore_plugins.architectures.temporal.attention import ContextAttention


class Temporal(SAE):
    """x̂ = (f + p) W_dec + b_dec: p is predicted from the context, f explains what is left.

    With λ = 1 / (4 d_in), r = x_c and z(r) = relu(λ r W_enc), each attention layer adds s · q to p
    and takes s · q W_dec from r, where q = relu(attention(z(r) moved on by one, z(r))) and s puts
    q W_dec at the foot of the perpendicular from r. Then f = topk(z(r)). Only f is sparse, and
    only f is what `encode` gives and `decode` takes.

    Inputs are contexts: `[N, T, d_in]`, position after position. Loading and inference only.
    Source: SAELens 6 (`temporal`).

    Raises:
        ConfigError: sizes that do not divide each other; or training.
    """

    architecture = "temporal"
    own_normalizations = ("constant_scalar_rescale",)
    latent_vectors = ()
    reads_contexts = True

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        divisor = config.n_heads * config.bottleneck_factor
        if shape.d_sae % divisor:
            raise ConfigError(
                "experiment",
                [f"sae.d_sae: expected a multiple of n_heads · bottleneck_factor = {divisor}, "
                 f"got {shape.d_sae}"],
            )  # fmt: skip
        self.attn_layers = nn.ModuleList(
            ContextAttention(shape, config.n_heads, config.bottleneck_factor)
            for _ in range(config.n_attn_layers)
        )

    @classmethod
    def file_sizes(cls, config: Any, d_sae: int) -> set[int]:
        """Keys and queries have a size of their own."""
        return {d_sae // config.bottleneck_factor}

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """No bias of the encoder; no encoder where it is tied."""
        sizes = super().parameter_sizes(shape)
        tied = self.cfg.tied_weights
        return {name: sizes[name] for name in (() if tied else ("encoder",)) + ("W_dec", "b_dec")}

    @property
    def W_enc(self) -> Tensor:
        """The encoder `[d_in, d_sae]`; the decoder's transpose where it is tied."""
        return (self.W_dec if self.cfg.tied_weights else self.encoder).t()

    def _scaled(self, x: Tensor) -> tuple[Tensor, Restore | None]:
        if self.cfg.normalize_activations != "constant_scalar_rescale":
            return super()._scaled(x)
        factor = self.cfg.activation_normalization_factor
        return x * factor, lambda x_hat: x_hat / factor

    def encode_with_predictions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes f and predicted codes p of contexts `[N, T, d_in]`: `[N, T, d_sae]` each."""
        rows = self._joined(x)
        codes, predicted = self._codes(self._scaled(rows)[0])
        size = (*rows.shape[:-1], self.cfg.d_sae)
        return codes.reshape(size), predicted.reshape(size)

    def _codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same of scaled contexts, `[B, T, d_sae]`."""
        if x.dim() < 3:  # rows of a matrix may be gathered from anywhere
            raise ValueError(f"a temporal SAE reads contexts [N, T, d_in], got {list(x.shape)}")
        rest = x.reshape(-1, *x.shape[-2:])
        rest = rest if self.centre is None else rest - self.centre
        weight = self.W_enc / (4 * self.cfg.d_in)
        predicted = rest.new_zeros(*rest.shape[:-1], self.cfg.d_sae)
        for layer in self.attn_layers:
            codes = (rest @ weight).relu()
            context = torch.nn.functional.pad(codes, (0, 0, 1, 0))[:, :-1]
            new = layer(context, codes).relu()
            direction = new @ self.W_dec  # [B, T, d_in]
            length = direction.norm(dim=-1, keepdim=True) + 1e-6
            share = (direction * rest).sum(-1, keepdim=True) / length.square()
            predicted = predicted + share * new
            rest = rest - share * direction
        codes = (rest @ weight).relu()
        if self.cfg.sae_diff_type == "topk" and self.cfg.kval_topk is not None:
            best = codes.topk(self.cfg.kval_topk, dim=-1)
            codes = torch.zeros_like(codes).scatter(-1, best.indices, best.values)
        return codes, predicted

    def encode_sparse(self, x: Tensor) -> Codes:
        """Codes f of contexts `[N, T, d_in]`, positions as rows."""
        return Codes.from_dense(self.encode_with_predictions(x)[0].flatten(0, -2))

    def encode(self, x: Tensor, latents: Tensor | None = None) -> Tensor:
        """Codes f of contexts `[N, T, d_in]`: all `[N, T, d_sae]`, or those of `latents`."""
        rows = self._joined(x)
        if self.cfg.normalize_activations in (*RUNTIME, *self.own_normalizations):
            self._restore = self._scaled(rows)[1]
        codes = self.encode_with_predictions(rows)[0]
        return codes if latents is None else codes[..., latents]

    def decode(self, features: Tensor | Codes) -> Tensor:
        """What f alone reconstructs; `forward` adds what the context predicts."""
        return super().decode(features)

    def decode_scaled(self, features: Tensor | Codes) -> Tensor:
        """Without the scale of the activations: `features @ W_dec + b_dec`."""
        dense = features.dense() if isinstance(features, Codes) else features
        out = dense @ self.W_dec
        # A tied SAE that does not centre its input has no bias at all.
        return out if self.cfg.tied_weights and self.centre is None else out + self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of contexts `[N, T, d_in]`."""
        rows = self._joined(x)
        scaled, restore = self._scaled(rows)
        codes, predicted = self._codes(scaled)
        out = self.decode_scaled(codes + predicted).reshape(rows.shape)
        return (out if restore is None else restore(out)).reshape(x.shape)

    def decompose(self, x: Tensor) -> Decomposition:
        """Contexts `[N, T, d_in]` in parts: codes f are features, the prediction stands beside."""
        scaled, restore = self._scaled(self._joined(x))
        codes, predicted = self._codes(scaled)
        features = Codes.from_dense(codes.flatten(0, -2))
        beside = (predicted @ self.W_dec).flatten(0, -2)
        if restore is not None:
            lead = scaled.shape[:-1]

            def restored(x_hat: Tensor) -> Tensor:
                return back(x_hat.reshape(*lead, -1)).flatten(0, -2)

            back, restore = restore, restored
        return Decomposition(self, scaled, features, beside, restore)

    def all_preactivations(self, x: Tensor) -> None:
        """None: each attention layer takes something from what the encoder reads."""

    def initialize(
        self, generator: torch.Generator, decoder_norm: float, tied: bool = True
    ) -> None:
        """Refused: see `training_step`."""
        self._refuse()

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """Refused: batches are single tokens in random order, which have no context.

        Raises:
            ConfigError: always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            "experiment",
            ['sae.architecture: "temporal" can be loaded and applied, not trained: training mixes '
             "tokens of many contexts; choose another architecture"],
        )  # fmt: skip

    def scale_latents(self, factor: Tensor) -> None:
        """Refused: attention reads the codes."""
        raise ConfigError("temporal", ["decoder norms cannot be folded: attention reads the codes"])

    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Refused: attention reads the codes."""
        raise ConfigError("temporal", ["a scale cannot be folded: attention reads the codes"])
