"""Qwen Scope: TopK SAEs of Qwen models' residual streams, one `layer<n>.sae.pt` per layer.

The file holds W_enc `[d_sae, d]`, W_dec `[d, d_sae]`, b_enc and b_dec, in float32; b_dec is not
subtracted from the input. `config.json` at the repository's root gives k and the model (`k`,
`base_model`, `d_model`, `d_sae`); without it they come from the repository's name,
`SAE-Res-<model>-W<thousands>K-L0_<k>`.

The model card keeps the k largest pre-activations even if negative; here, as in SAELens, negative
ones become zero. This differs only for tokens with fewer than k positive pre-activations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import NamedFiles
from saecore.releases.tensor_reader import Tensors, same_size, setting
from saecore.storage.repository import Repository

REPOSITORY = re.compile(r"SAE-Res-(.+)-W\d+K-L0_(\d+)")
"""Repository names: the model and k."""


class QwenScope(NamedFiles):
    """Reads SAEs of Qwen/SAE-Res-*."""

    pattern = re.compile(r"layer(\d+)\.sae\.pt")
    form = "layer<n>.sae.pt"

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read the file, and config.json if there is one."""
        label = files.label(path)
        layer = int(self.match(files, path)[1])
        model, k, sizes = self._description(files)
        if k is None:
            raise ReleaseError(
                f"{label}: k is unknown: no k in {files.name}/config.json and no L0_<k> in the "
                "repository's name"
            )
        tensors = Tensors(files.torch(path), label)
        weights = {
            "W_enc": tensors.take("W_enc", 2).t(),
            "b_enc": tensors.take("b_enc", 1),
            "W_dec": tensors.take("W_dec", 2).t(),
            "b_dec": tensors.take("b_dec", 1),
        }
        tensors.end()
        d_in, d_sae = weights["W_enc"].shape
        same_size(label, "W_enc", d_in, "config.json's d_model", sizes[0])
        same_size(label, "W_enc", d_sae, "config.json's d_sae", sizes[1])
        metadata = {
            "model_name": model,
            "hook_name": f"blocks.{layer}.hook_resid_post",
            "hf_hook_name": f"model.layers.{layer}",
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": None,
            "context_size": 1024,
        }
        return Draft.of("topk", weights, metadata, k=k)

    def _description(
        self, files: Repository
    ) -> tuple[str | None, int | None, tuple[int | None, int | None]]:
        """Model, k, and (d_in, d_sae), from the configuration or the repository's name."""
        name = REPOSITORY.search(files.name)
        model, k = (f"Qwen/{name[1]}", int(name[2])) if name else (None, None)
        if not files.has("config.json"):
            return model, k, (None, None)
        table, label = files.json("config.json"), f"{files.name}/config.json"
        kind = setting(table, "model_type", str, label)
        if kind not in (None, "topk_sae"):
            raise ReleaseError(f'{label}: model_type: expected "topk_sae", got "{kind}"')
        hook = setting(table, "hook_point", str, label)
        if hook not in (None, "resid_post"):
            raise ReleaseError(f'{label}: hook_point: expected "resid_post", got "{hook}"')
        return (
            setting(table, "base_model", str, label) or model,
            setting(table, "k", int, label) or k,
            (setting(table, "d_model", int, label), setting(table, "d_sae", int, label)),
        )


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="qwen_scope",
        build=QwenScope,
        summary="Qwen Scope: TopK SAEs of Qwen models (layer<n>.sae.pt)",
    )
