"""Llama Scope: JumpReLU SAEs and transcoders of Llama 3.1 8B, in OpenMOSS' first format.

`{path}/checkpoints/final.safetensors` holds encoder.weight `[d_sae, d]`, encoder.bias,
decoder.weight `[d, d_sae]` and decoder.bias in bfloat16; `{path}/hyperparams.json` has the
settings. Activations are scaled by s = sqrt(d) / dataset_average_activation_norm, with separate
factors for the hook that is read (in) and the one that is reconstructed (out); both are folded into
float32 weights here. Nothing is subtracted from the input.

A latent is active if n · pre > θ s_in, where n is the norm of its stored decoder row if
sparsity_include_decoder_norm, so its threshold is θ s_in / n. (SAELens 6.54 ignores n, and takes s
from its catalogue: without an entry it does not scale at all.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Folders
from saecore.releases.tensor_reader import Tensors, required, same_size, setting
from saecore.storage.repository import Repository

ONLY = {
    "act_fn": "jumprelu",
    "norm_activation": "dataset-wise",
    "use_glu_encoder": False,
    "apply_decoder_bias_to_pre_encoder": False,
}
"""Settings with one value in all published SAEs; other values are refused."""


class LlamaScope(Folders):
    """Reads SAEs and transcoders of fnlp/Llama3_1-8B-Base-*."""

    names = ("hyperparams.json", "checkpoints/final.safetensors")

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read both files."""
        name = f"{path}/hyperparams.json"
        table, where = files.json(name), files.label(name)
        for key, value in ONLY.items():
            got = table.get(key)
            if got != value:
                raise ReleaseError(f"{where}: {key}: expected {value!r}, got {got!r:.80}")
        file = f"{path}/checkpoints/final.safetensors"
        label = files.label(file)
        tensors = Tensors(files.safetensors(file), label)
        encoder = tensors.take("encoder.weight", 2).float()  # [d_sae, d]
        decoder = tensors.take("decoder.weight", 2).float().t()
        d_in, d_sae = encoder.shape[1], encoder.shape[0]
        same_size(label, "decoder.weight", decoder.shape[0], "encoder.weight's d_sae", d_sae)
        same_size(label, "encoder.weight", d_in, "d_model", setting(table, "d_model", int, where))
        same_size(label, "encoder.weight", d_sae, "d_sae", setting(table, "d_sae", int, where))
        s_in, s_out = (_scale(table, side, d_in, where) for side in ("in", "out"))
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
        hook, out = (required(table, f"hook_point_{end}", str, where) for end in ("in", "out"))
        metadata: dict[str, Any] = {
            "model_name": "meta-llama/Llama-3.1-8B",
            "hook_name": hook,
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "cerebras/SlimPajama-627B",
            "context_size": 1024,
            **({"hook_name_out": out} if out != hook else {}),
        }
        if out == hook:
            return Draft.of("jumprelu", weights, metadata)
        return Draft.of("jumprelu_transcoder", weights, metadata, d_out=decoder.shape[1])


def _scale(table: dict[str, Any], side: str, d: int, where: str) -> float:
    """The factor for the activations of a hook."""
    key = f"dataset_average_activation_norm.{side}"
    norm = required(table, key, float, where)
    if not 0 < norm < math.inf:
        raise ReleaseError(f"{where}: {key}: expected a positive number, got {norm}")
    return float(d**0.5 / norm)


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="llama_scope",
        build=LlamaScope,
        summary="Llama Scope: SAEs of Llama 3.1 8B (hyperparams.json, checkpoints/)",
    )
