"""Llama Scope: JumpReLU SAEs and transcoders of Llama 3.1 8B, in OpenMOSS' first form.

`{path}/checkpoints/final.safetensors` holds encoder.weight `[d_sae, d]`, encoder.bias,
decoder.weight `[d, d_sae]` and decoder.bias in bfloat16; `{path}/hyperparams.json` the rest.
Activations are scaled by s = sqrt(d) / dataset_average_activation_norm, of the hook that is read
(in) and of the one that is reconstructed (out); both are folded into float32 weights here. Nothing
is subtracted from the input.

A latent is active where n · pre > θ s_in, with n the norm of its decoder row as it is stored if
sparsity_include_decoder_norm, so that its threshold is θ s_in / n. (SAELens 6.54 leaves n out, and
takes s from its catalogue: without an entry it does not scale at all.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.layout import Folders
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors, required, same_size, setting

ONLY = {
    "act_fn": "jumprelu",
    "norm_activation": "dataset-wise",
    "use_glu_encoder": False,
    "apply_decoder_bias_to_pre_encoder": False,
}
"""Settings that are the same in all that was published; no other value is read."""


@attrs.frozen
class LlamaScopeConfig:
    """This format has no settings."""


class LlamaScope(Folders):
    """Reads SAEs and transcoders of fnlp/Llama3_1-8B-Base-*."""

    names = ("hyperparams.json", "checkpoints/final.safetensors")

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read both files."""
        name = f"{path}/hyperparams.json"
        table, where = files.json(name), f"{files.name}/{name}"
        for key, value in ONLY.items():
            got = table.get(key)
            if got != value:
                raise ReleaseError(f"{where}: {key}: only {value!r} is read, got {got!r:.80}")
        file = f"{path}/checkpoints/final.safetensors"
        label = f"{files.name}/{file}"
        tensors = Tensors(files.safetensors(file), label)
        encoder = tensors.take("encoder.weight", 2).float()  # [d_sae, d]
        decoder = tensors.take("decoder.weight", 2).float().t()
        d_in, d_sae = encoder.shape[1], encoder.shape[0]
        same_size(label, "decoder.weight", decoder.shape[0], "encoder.weight's d_sae", d_sae)
        same_size(label, "encoder.weight", d_in, "d_model", setting(table, "d_model", int, where))
        same_size(label, "encoder.weight", d_sae, "d_sae", setting(table, "d_sae", int, where))
        s_in, s_out = (_scale(table, one, d_in, where) for one in ("in", "out"))
        b_enc = tensors.take("encoder.bias", 1).float()
        b_dec = decoder.new_zeros(decoder.shape[1])
        if required(table, "use_decoder_bias", bool, where):
            b_dec = tensors.take("decoder.bias", 1).float()
        tensors.end()
        threshold = b_enc.new_full((d_sae,), required(table, "jump_relu_threshold", float, where))
        if required(table, "sparsity_include_decoder_norm", bool, where):
            threshold = threshold / decoder.norm(dim=1)
        weights = {
            "W_enc": encoder.t() * s_in,
            "W_dec": decoder / s_out,
            "b_enc": b_enc,
            "b_dec": b_dec / s_out,
            "threshold": threshold * s_in,
        }
        hook, out = (required(table, f"hook_point_{one}", str, where) for one in ("in", "out"))
        metadata: dict[str, Any] = {
            "model_name": "meta-llama/Llama-3.1-8B",
            "hook_name": hook,
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "cerebras/SlimPajama-627B",
            "context_size": 1024,
            **({"hook_name_out": out} if out != hook else {}),
        }
        own: dict[str, Any] = {"d_out": decoder.shape[1]} if out != hook else {}
        return Draft.of(
            "jumprelu" if out == hook else "jumprelu_transcoder",
            weights,
            metadata,
            **own,
        )


def _scale(table: dict[str, Any], side: str, d: int, where: str) -> float:
    """The factor of the activations of one hook."""
    key = f"dataset_average_activation_norm.{side}"
    norm = required(table, key, float, where)
    if not 0 < norm < math.inf:
        raise ReleaseError(f"{where}: {key}: expected a positive number, got {norm}")
    return float(d**0.5 / norm)


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="llama_scope",
        config=LlamaScopeConfig,
        build=LlamaScope,
        summary="Llama Scope: SAEs of Llama 3.1 8B (hyperparams.json, checkpoints/)",
    )
