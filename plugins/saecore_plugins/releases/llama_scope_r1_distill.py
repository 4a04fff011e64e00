"""Llama Scope R1 Distill: JumpReLU SAEs of DeepSeek-R1-Distill-Llama-8B, in OpenMOSS' second
format.

`{path}/sae_weights.safetensors` holds encoder.weight `[d_sae, d]`, encoder.bias, decoder.weight
`[d, d_sae]`, decoder.bias, log_jumprelu_threshold `[d_sae]` and
dataset_average_activation_norm.<hook>; `{path}/config.json` has the settings. Activations are
scaled by s = sqrt(d) / that norm, which is folded into the weights here. Thresholds apply to scaled
activations. Nothing is subtracted from the input.

A latent is active if n · pre > θ, where n is the norm of its stored decoder row if
sparsity_include_decoder_norm, so its threshold is θ / n. (SAELens 6.54 ignores n, takes s only from
its catalogue, and names the model meta-llama/Llama-3.1-8B.)
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Sequence

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Format
from saecore.releases.tensor_reader import Tensors, required, same_size, setting
from saecore.storage.repository import Repository

ONLY = {"act_fn": "jumprelu", "norm_activation": "dataset-wise", "use_glu_encoder": False}
"""Settings with one value in all published SAEs; other values are refused."""

NORM = "dataset_average_activation_norm."
"""Prefix of the tensors that hold mean norms of activations; the hook follows."""

TOLERANCE = 0.01
"""Largest relative difference of the factors in file and catalogue."""


class LlamaScopeR1Distill(Format):
    """Reads SAEs of fnlp/Llama-Scope-R1-Distill."""

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` has both files, and weights with these names."""
        return (
            files.has(f"{path}/config.json")
            and files.has(f"{path}/sae_weights.safetensors")
            and "log_jumprelu_threshold" in files.tensor_names(f"{path}/sae_weights.safetensors")
        )

    def list(self, files: Repository) -> Sequence[str]:
        """List every folder with both files, if the first is of this format."""
        end = "sae_weights.safetensors"
        names = [name for name in files.files if posixpath.basename(name) == end]
        folders = [posixpath.dirname(name) for name in names]
        folders = [folder for folder in folders if files.has(f"{folder}/config.json")]
        return folders if folders and self.recognize(files, folders[0]) else []

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read both files."""
        name = f"{path}/config.json"
        table, where = files.json(name), files.label(name)
        for key, value in ONLY.items():
            got = table.get(key)
            if got != value:
                raise ReleaseError(f"{where}: {key}: expected {value!r}, got {got!r:.80}")
        hook, out = (required(table, f"hook_point_{end}", str, where) for end in ("in", "out"))
        if hook != out:
            raise ReleaseError(
                f"{where}: hook_point_out: expected {hook!r}, got {out!r}; no transcoders"
            )
        label = files.label(f"{path}/sae_weights.safetensors")
        tensors = Tensors(files.safetensors(f"{path}/sae_weights.safetensors"), label)
        encoder = tensors.take("encoder.weight", 2).float()  # [d_sae, d]
        decoder = tensors.take("decoder.weight", 2).float().t()
        d_sae, d_in = encoder.shape
        same_size(label, "decoder.weight", decoder.shape[0], "encoder.weight's d_sae", d_sae)
        same_size(label, "encoder.weight", d_in, "d_model", setting(table, "d_model", int, where))
        s, warnings = _scale(tensors, hook, d_in, facts)
        b_dec = decoder.new_zeros(d_in)
        if required(table, "use_decoder_bias", bool, where):
            b_dec = tensors.take("decoder.bias", 1).float()
        threshold = tensors.take("log_jumprelu_threshold", 1).float().exp()
        same_size(label, "log_jumprelu_threshold", len(threshold), "encoder.weight's d_sae", d_sae)
        if required(table, "sparsity_include_decoder_norm", bool, where):
            threshold = threshold / decoder.norm(dim=1)
        weights = {
            "W_enc": encoder.t() * s,
            "W_dec": decoder / s,
            "b_enc": tensors.take("encoder.bias", 1).float(),
            "b_dec": b_dec / s,
            "threshold": threshold,
        }
        tensors.end()
        metadata = {
            "model_name": facts.model or "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
            "hook_name": hook,
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "cerebras/SlimPajama-627B",
            "context_size": 1024,
        }
        return Draft.of("jumprelu", weights, metadata, warnings=warnings)


def _scale(tensors: Tensors, hook: str, d: int, facts: CatalogueFacts) -> tuple[float, list[str]]:
    """The factor for the activations; if file and catalogue disagree, the catalogue's."""
    known = facts.norm_scaling_factor
    name = f"{NORM}{hook}"
    norm = float(tensors.take(name, 0)) if name in tensors.names else 0.0
    if not 0 < norm < math.inf:
        if known is None:
            raise ReleaseError(
                f"{tensors.label}: {name}: expected the positive mean norm of activations"
            )
        return known, []
    in_file = float(d**0.5 / norm)
    if known is None or abs(in_file / known - 1) <= TOLERANCE:
        return in_file, []
    warning = (
        f"{tensors.label}: the factor for the activations is {in_file:.4g} in the file and "
        f"{known:.4g} in the catalogue; the catalogue's is used"
    )
    return known, [warning]


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="llama_scope_r1_distill",
        build=LlamaScopeR1Distill,
        summary="Llama Scope: SAEs of DeepSeek-R1-Distill-Llama-8B (sae_weights.safetensors)",
    )
