"""Temporal SAEs (canrager/temporalSAEs): `{path}/conf.yaml` and `latest_ckpt.safetensors`.

D `[d_sae, d]` is W_dec, b is b_dec, and E `[d, d_sae]` is W_enc, which exists only if the weights
are not tied; `attn_layers.*` are as in the architecture `temporal`. Activations are multiplied by
`sae.scaling_factor` and reconstructions divided by it. The layer is in the path (`layer_<n>`) or in
`llm.layer`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Any

from saecore.core.release import CatalogueFacts, Draft
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Folders
from saecore.releases.tensor_reader import Tensors, required, same_size, setting
from saecore.storage.repository import Repository

CONF, WEIGHTS = "conf.yaml", "latest_ckpt.safetensors"
"""The files of an SAE."""


class TemporalRelease(Folders):
    """Reads temporal SAEs."""

    names = (CONF, WEIGHTS)

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read both files."""
        conf, label = files.yaml(posixpath.join(path, CONF)), files.label(f"{path}/{CONF}")
        file = posixpath.join(path, WEIGHTS)
        tensors = Tensors(files.safetensors(file), files.label(file))
        settings: dict[str, Any] = {
            "n_heads": required(conf, "sae.n_heads", int, label),
            "n_attn_layers": required(conf, "sae.n_attn_layers", int, label),
            "bottleneck_factor": required(conf, "sae.bottleneck_factor", int, label),
            "sae_diff_type": required(conf, "sae.sae_diff_type", str, label),
            "kval_topk": setting(conf, "sae.kval_topk", int, label),
            "tied_weights": required(conf, "sae.tied_weights", bool, label),
            "activation_normalization_factor": required(conf, "sae.scaling_factor", float, label),
        }
        weights = {"W_dec": tensors.take("D", 2), "b_dec": tensors.take("b", 1)}
        if not settings["tied_weights"]:
            weights["W_enc"] = tensors.take("E", 2)
        for name in sorted(name for name in tensors.names if name.startswith("attn_layers.")):
            weights[name] = tensors.take(name, 1 if name.endswith(".bias") else 2)
        tensors.end()
        layers = {name.split(".")[1] for name in weights if name.startswith("attn_layers.")}
        same_size(label, "the weights", len(layers), "sae.n_attn_layers", settings["n_attn_layers"])
        d_sae, d_in = weights["W_dec"].shape
        same_size(label, "D", d_in, "llm.dimin", setting(conf, "llm.dimin", int, label))
        factor = setting(conf, "sae.exp_factor", float, label)
        if factor is not None:
            same_size(label, "D", d_sae, "llm.dimin * sae.exp_factor", int(d_in * factor))
        return Draft.of(
            "temporal",
            weights,
            self._metadata(conf, label, path),
            apply_b_dec_to_input=True,
            normalize_activations="constant_scalar_rescale",
            **settings,
        )

    def _metadata(self, conf: dict[str, Any], label: str, path: str) -> dict[str, Any]:
        match = re.search(r"layer_(\d+)", path)
        layer = int(match[1]) if match else setting(conf, "llm.layer", int, label)
        return {
            "model_name": setting(conf, "llm.model_hf_name", str, label),
            "hook_name": f"blocks.{layer}.hook_resid_post" if layer is not None else None,
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": setting(conf, "data.dataset_name", str, label),
            "context_size": setting(conf, "data.context_length", int, label),
        }


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="temporal",
        build=TemporalRelease,
        summary="temporal SAEs (conf.yaml, latest_ckpt.safetensors)",
    )
