"""The temporal SAE."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from saecore.core.file_form import FileForm
from saecore.core.forward_parts import ForwardParts
from saecore.core.normalizer import Restore
from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
from saecore.core.step import Batch, StepContext, StepOutput
from saecore.errors import ConfigError
from saecore.ops.codes import Codes
from saecore_plugins.architectures.temporal.attention import ContextAttention


class Temporal(SAE):
    """x̂ = (f + p) W_dec + b_dec: p is predicted from the context, f explains the rest.

    With λ = 1 / (4 d_in), r = x_c and z(r) = relu(λ r W_enc), each attention layer adds s · q to p
    and subtracts s · q W_dec from r, where q = relu(attention(z(r) shifted by one, z(r))) and s
    projects r on q W_dec. Then f = topk(z(r)). Only f is sparse; `encode` returns it, and
    `decode` expects it.

    Inputs are contexts `[N, T, d_in]`, in order of positions. Loading and inference only.
    Source: SAELens 6 (`temporal`).

    Raises:
        ConfigError: sizes are not divisible, or the SAE is trained.
    """

    architecture = "temporal"
    file_form = FileForm(
        normalizations=("constant_scalar_rescale",),
        # Keys and queries have a narrower size.
        tensor_sizes=lambda config, d_sae: {d_sae // config.bottleneck_factor},
    )
    latent_vectors = ()
    reads_contexts = True

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        divisor = config.n_heads * config.bottleneck_factor
        if shape.d_sae % divisor:
            raise ConfigError(
                [f"sae.d_sae: expected a multiple of n_heads · bottleneck_factor = {divisor}, "
                 f"got {shape.d_sae}"],
            )  # fmt: skip
        self.attn_layers = nn.ModuleList(
            ContextAttention(shape, config.n_heads, config.bottleneck_factor)
            for _ in range(config.n_attn_layers)
        )

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """No encoder bias, and no encoder if it is tied."""
        sizes = super().parameter_sizes(shape)
        tied = self.cfg.tied_weights
        return {name: sizes[name] for name in (() if tied else ("encoder",)) + ("W_dec", "b_dec")}

    @property
    def W_enc(self) -> Tensor:
        """The encoder `[d_in, d_sae]`; the decoder's transpose if it is tied."""
        return (self.W_dec if self.cfg.tied_weights else self.encoder).t()

    def normalize(self, x: Tensor) -> tuple[Tensor, Restore | None]:
        """Normalize `x [..., d_in]`; "constant_scalar_rescale" is one factor for all."""
        if self.cfg.normalize_activations != "constant_scalar_rescale":
            return super().normalize(x)
        factor = self.cfg.activation_normalization_factor
        return x * factor, lambda x_hat: x_hat / factor

    def encode_with_predictions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes f and predicted codes p of contexts `[N, T, d_in]`: `[N, T, d_sae]` each."""
        rows = self._joined(x)
        codes, predicted = self._codes(self.normalize(rows)[0])
        size = (*rows.shape[:-1], self.cfg.d_sae)
        return codes.reshape(size), predicted.reshape(size)

    def _codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes f and p of normalized contexts, `[B, T, d_sae]` each."""
        if x.dim() < 3:  # rows of a matrix need not be consecutive tokens
            raise ValueError(f"a temporal SAE reads contexts [N, T, d_in], got {list(x.shape)}")
        rest = x.reshape(-1, *x.shape[-2:])
        rest = rest if self.center is None else rest - self.center
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
        codes = self.encode_with_predictions(x)[0]
        self.last_restore = self._rows(x)[1]
        return Codes.from_dense(codes.flatten(0, -2))

    def encode(self, x: Tensor, latents: Tensor | None = None) -> Tensor:
        """Codes f of contexts `[N, T, d_in]`: all `[N, T, d_sae]`, or those of `latents`."""
        contexts = self._joined(x)
        self.last_restore = self.normalize(contexts)[1]
        codes = self.encode_with_predictions(contexts)[0]
        return codes if latents is None else codes[..., latents]

    def decode_codes(self, codes: Tensor | Codes) -> Tensor:
        """Apply the decoder to codes `[..., d_sae]`; `forward` adds the predicted codes."""
        dense = codes.dense() if isinstance(codes, Codes) else codes
        out = dense @ self.W_dec
        # A tied SAE that does not center its input has no bias.
        return out if self.cfg.tied_weights and self.center is None else out + self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of contexts `[N, T, d_in]`."""
        rows = self._joined(x)
        scaled, restore = self.normalize(rows)
        codes, predicted = self._codes(scaled)
        out = self.decode_codes(codes + predicted).reshape(rows.shape)
        return (out if restore is None else restore(out)).reshape(x.shape)

    def decompose(self, x: Tensor) -> ForwardParts:
        """Contexts `[N, T, d_in]` in parts: features are f, the skip term is decoded from p."""
        contexts = self.normalize(self._joined(x))[0]
        codes, predicted = self._codes(contexts)
        return ForwardParts(
            sae=self,
            inputs=contexts,
            features=Codes.from_dense(codes.flatten(0, -2)),
            skip_term=(predicted @ self.W_dec).flatten(0, -2),
            restore=self._rows(x)[1],
        )

    def all_preactivations(self, x: Tensor) -> None:
        """None: each attention layer changes what the encoder reads."""

    def initialize(
        self, generator: torch.Generator, decoder_norm: float, tied: bool = True
    ) -> None:
        """Refuse: see `training_step`."""
        self._refuse()

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """Refuse: batches are single tokens in random order, without context.

        Raises:
            ConfigError: always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            ['sae.architecture: "temporal" can be loaded and applied, not trained: training mixes '
             "tokens of many contexts; choose another architecture"],
        )  # fmt: skip

    def scale_latents(self, factor: Tensor) -> None:
        """Refuse: attention reads the codes."""
        raise ConfigError(
            ["decoder norms cannot be folded: attention reads the codes"], label="temporal"
        )

    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Refuse: attention reads the codes."""
        raise ConfigError(["a scale cannot be folded: attention reads the codes"], label="temporal")
