"""Gemma Scope: JumpReLU SAEs of Gemma 2 on residual stream, MLP and attention outputs.

`{path}/params.npz` holds W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_in]`, b_enc, b_dec and threshold,
in float32; there is no configuration. b_dec is not subtracted from the input. The site follows from
the repository's name, the layer from the path.

SAEs of the embedding were trained on embeddings before Gemma multiplies them by sqrt(d): W_enc is
divided, W_dec and b_dec are multiplied by it. (SAELens 6.54 leaves b_dec as it is.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts

MODELS = ("2b-it", "9b-it", "27b-it", "2b", "9b", "27b")
"""Models in the names of repositories, those that contain another first."""


@attrs.frozen
class GemmaScopeConfig:
    """This format has no settings."""


class GemmaScope:
    """Reads SAEs of google/gemma-scope-*."""

    def __init__(self, config: GemmaScopeConfig) -> None:
        self.config = config

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` has params.npz in a repository that is not of transcoders."""
        return files.has(f"{path}/params.npz") and "transcoder" not in files.name

    def list(self, files: Repository) -> Sequence[str]:
        """Every folder with a params.npz."""
        end = "/params.npz"
        return [one.removesuffix(end) for one in files.files if one.endswith(end)]

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read params.npz; names of tensors may be written in small letters."""
        arrays = files.npz(f"{path}/params.npz")
        tensors = {re.sub("^w_", "W_", name): one for name, one in arrays.items()}
        if "W_enc" not in tensors:
            raise ReleaseError(f"{files.name}/{path}/params.npz: tensor W_enc is missing")
        d_in, d_sae = tensors["W_enc"].shape
        if "embedding" in path:
            root = d_in**0.5
            tensors["W_enc"] = tensors["W_enc"] / root
            tensors |= {name: tensors[name] * root for name in ("W_dec", "b_dec")}
        hook = facts.hook or _hook(files.name, path)
        model = next((one for one in MODELS if one in files.name), None)
        metadata = {
            "model_name": f"gemma-2-{model}" if model else facts.model,
            "hook_name": hook,
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "monology/pile-uncopyrighted",
            "context_size": 1024,
            "neuronpedia_id": facts.neuronpedia,
        }
        cfg = {
            "architecture": "jumprelu",
            "d_in": d_in,
            "d_sae": d_sae,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": False,
            "normalize_activations": "none",
            "reshape_activations": "hook_z" if hook and "hook_z" in hook else "none",
            "metadata": metadata,
        }
        return Draft(cfg, tensors)


def _hook(repository: str, path: str) -> str | None:
    """The hook's name, as far as the names of repository and path say it."""
    if "embedding" in path:
        return "hook_embed"
    layer = re.search(r"layer_(\d+)", path)
    site = re.search(r"-(res|mlp|att)\b", repository)
    if layer is None or site is None:
        return None
    ends = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
    return f"blocks.{layer[1]}.{ends[site[1]]}"


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="gemma_scope",
        config=GemmaScopeConfig,
        build=GemmaScope,
        summary="Gemma Scope: JumpReLU SAEs of Gemma 2 (params.npz)",
    )
