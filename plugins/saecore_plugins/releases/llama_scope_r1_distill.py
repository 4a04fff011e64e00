"""Llama Scope R1 Distill: JumpReLU SAEs of DeepSeek-R1-Distill-Llama-8B, in OpenMOSS' second form.

`{path}/sae_weights.safetensors` holds encoder.weight `[d_sae, d]`, encoder.bias, decoder.weight
`[d, d_sae]`, decoder.bias, log_jumprelu_threshold `[d_sae]` and
dataset_average_activation_norm.<hook>; `{path}/config.json` the rest. Activations are scaled by s =
sqrt(d) / that norm, which is folded into the weights here. Thresholds are those of scaled
activations. Nothing is subtracted from the input.

A latent is active where n · pre > θ, with n the norm of its decoder row as it is stored if
sparsity_include_decoder_norm, so that its threshold is θ / n. (SAELens 6.54 leaves n out, takes s
from its catalogue alone, and calls the model meta-llama/Llama-3.1-8B.)
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Sequence

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.layout import Format
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors, required, same_size, setting

ONLY = {"act_fn": "jumprelu", "norm_activation": "dataset-wise", "use_glu_encoder": False}
"""Settings that are the same in all that was published; no other value is read."""

NORM = "dataset_average_activation_norm."
"""Names of the tensors that hold mean norms of activations, before the hook."""

TOLERANCE = 0.01
"""By how much the factors of file and catalogue may differ."""


@attrs.frozen
class LlamaScopeR1DistillConfig:
    """This format has no settings."""


class LlamaScopeR1Distill(Format):
    """Reads SAEs of fnlp/Llama-Scope-R1-Distill."""

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` has both files, and weights with these names."""
        return (
            files.has(f"{path}/config.json")
            and files.has(f"{path}/sae_weights.safetensors")
            and "log_jumprelu_threshold" in files.tensor_names(f"{path}/sae_weights.safetensors")
        )

    def list(self, files: Repository) -> Sequence[str]:
        """Every folder with both files, if the first is of this format."""
        end = "sae_weights.safetensors"
        folders = [posixpath.dirname(one) for one in files.files if posixpath.basename(one) == end]
        found = [one for one in folders if files.has(f"{one}/config.json")]
        return found if found and self.recognise(files, found[0]) else []

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read both files."""
        name = f"{path}/config.json"
        table, where = files.json(name), f"{files.name}/{name}"
        for key, value in ONLY.items():
            got = table.get(key)
            if got != value:
                raise ReleaseError(f"{where}: {key}: only {value!r} is read, got {got!r:.80}")
        hook, out = (required(table, f"hook_point_{one}", str, where) for one in ("in", "out"))
        if hook != out:
            raise ReleaseError(f"{where}: hook_point_out: transcoders were not published so")
        label = f"{files.name}/{path}/sae_weights.safetensors"
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


def _scale(tensors: Tensors, hook: str, d: int, facts: Facts) -> tuple[float, list[str]]:
    """The factor of the activations; the catalogue's where the file disagrees, with a warning."""
    known = facts.norm_scaling_factor
    name = f"{NORM}{hook}"
    norm = float(tensors.take(name, 0)) if name in tensors.names else 0.0
    if not 0 < norm < math.inf:
        if known is None:
            raise ReleaseError(
                f"{tensors.label}: {name}: expected the positive mean norm of activations"
            )
        return known, []
    own = float(d**0.5 / norm)
    if known is None or abs(own / known - 1) <= TOLERANCE:
        return own, []
    line = (
        f"{tensors.label}: the activations' factor is {own:.4g} by the file, {known:.4g} by the "
        "catalogue; the catalogue's is used"
    )
    return known, [line]


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="llama_scope_r1_distill",
        config=LlamaScopeR1DistillConfig,
        build=LlamaScopeR1Distill,
        summary="Llama Scope: SAEs of DeepSeek-R1-Distill-Llama-8B (sae_weights.safetensors)",
    )
