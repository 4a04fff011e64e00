"""Transcoders by mwhanna (circuit-tracer's per-layer sets): one `layer_<n>.safetensors` per layer.

The file holds W_enc `[d_sae, d]`, W_dec `[d_sae, d]`, b_enc and b_dec, in bfloat16. The activation
is ReLU; nothing is subtracted from the input. `config.yaml` has the model and the hooks,
`wandb-config.yaml` (or `wanb-config.yaml`) the training settings, each under `value`; without
config.yaml the model is `Qwen/Qwen3-<size>B`, from the repository's name. Transcoders read the
MLP's input after the norm and its weight, so weights must not be folded (`fold_ln` false).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Any

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import NamedFiles
from saecore.releases.tensor_reader import Tensors, same_size, setting
from saecore.storage.repository import Repository

SETTINGS = ("wandb-config.yaml", "wanb-config.yaml")
"""Files of training settings; published files have both spellings."""


class Mwhanna(NamedFiles):
    """Reads transcoders of mwhanna/*-transcoders*."""

    pattern = re.compile(r"layer_(\d+)\.safetensors")
    form = "layer_<n>.safetensors"

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` is a layer's file with training settings or config.yaml beside it."""
        if not super().recognize(files, path):
            return False
        folder = posixpath.dirname(path)
        return any(files.has(posixpath.join(folder, name)) for name in (*SETTINGS, "config.yaml"))

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read the layer's file and the settings beside it."""
        label, folder = files.label(path), posixpath.dirname(path)
        layer = int(self.match(files, path)[1])
        tensors = Tensors(files.safetensors(path), label)
        weights = {
            "W_enc": tensors.take("W_enc", 2).t(),
            "b_enc": tensors.take("b_enc", 1),
            "W_dec": tensors.take("W_dec", 2),
            "b_dec": tensors.take("b_dec", 1),
        }
        tensors.end("transcoders of this format have four tensors")
        d_in, d_sae = weights["W_enc"].shape
        d_out = weights["W_dec"].shape[1]
        training = self._training(files, folder, label, d_in, d_sae)
        metadata = {
            **self._hooks(files, folder, layer),
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "monology/pile-uncopyrighted",
            **training,
            "model_from_pretrained_kwargs": {"fold_ln": False},
        }
        return Draft.of("transcoder", weights, metadata, d_out=d_out)

    def _training(
        self, files: Repository, folder: str, label: str, d_in: int, d_sae: int
    ) -> dict[str, Any]:
        """Check the training settings against the weights; the context size, if known."""
        for name in (posixpath.join(folder, file) for file in SETTINGS):
            if not files.has(name):
                continue
            table, where = files.yaml(name), files.label(name)
            same_size(label, "W_enc", d_in, f"{name}'s d_model",
                      setting(table, "d_model.value", int, where))  # fmt: skip
            same_size(label, "W_enc", d_sae, f"{name}'s d_feature",
                      setting(table, "d_feature.value", int, where))  # fmt: skip
            activation = setting(table, "act_fn.value", str, where)
            if activation not in (None, "relu"):
                raise ReleaseError(f'{where}: act_fn: expected "relu", got "{activation}"')
            # As in SAELens: a batch was one context.
            return {"context_size": setting(table, "batch_size.value", int, where)}
        return {}

    def _hooks(self, files: Repository, folder: str, layer: int) -> dict[str, Any]:
        """Metadata: model and hooks."""
        name = posixpath.join(folder, "config.yaml")
        table, where = {}, files.label(name)
        if files.has(name):
            table = files.yaml(name)
        size = re.search(r"qwen3-(\d+(?:\.\d+)?)b", files.name, re.IGNORECASE)
        model = setting(table, "model_name", str, where) or (
            f"Qwen/Qwen3-{size[1]}B" if size else None
        )
        hook = setting(table, "feature_input_hook", str, where) or "mlp.hook_in"
        hook_out = setting(table, "feature_output_hook", str, where) or "mlp.hook_out"
        # Both are names of the MLP's output.
        hook_out = "hook_mlp_out" if hook_out == "mlp.hook_out" else hook_out
        return {
            "model_name": model,
            "hook_name": f"blocks.{layer}.{hook}",
            "hook_name_out": f"blocks.{layer}.{hook_out}",
        }


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="mwhanna",
        build=Mwhanna,
        summary="mwhanna's per-layer ReLU transcoders (layer_<n>.safetensors)",
    )
