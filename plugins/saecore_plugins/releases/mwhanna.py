"""Transcoders by mwhanna (circuit-tracer's per-layer sets): one `layer_<n>.safetensors` a layer.

W_enc is stored `[d_sae, d]`, W_dec `[d_sae, d]`, beside b_enc and b_dec, in bfloat16; ReLU; nothing
is subtracted from the input. `config.yaml` has the model and the hooks, `wandb-config.yaml` (or
`wanb-config.yaml`) the settings of training, each under `value`; without config.yaml the model is
`Qwen/Qwen3-<size>B` of the repository's name. The hook that is read is the MLP's own input, after
the norm with its weight, so weights must not be folded (`fold_ln` false).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.layout import Format
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors, same_size, setting

FILE = re.compile(r"layer_(\d+)\.safetensors")
"""File names: the layer."""

SETTINGS = ("wandb-config.yaml", "wanb-config.yaml")
"""Settings of training; the second spelling is published."""


@attrs.frozen
class MwhannaConfig:
    """This format has no settings."""


class Mwhanna(Format):
    """Reads transcoders of mwhanna/*-transcoders*."""

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` is a layer's file, beside settings of training or a set's config.yaml."""
        if not files.has(path) or FILE.fullmatch(posixpath.basename(path)) is None:
            return False
        folder = posixpath.dirname(path)
        return any(files.has(posixpath.join(folder, one)) for one in (*SETTINGS, "config.yaml"))

    def list(self, files: Repository) -> Sequence[str]:
        """Every layer's file."""
        return [one for one in files.files if self.recognise(files, one)]

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read the layer's file and the settings beside it."""
        label, folder = f"{files.name}/{path}", posixpath.dirname(path)
        file = FILE.fullmatch(posixpath.basename(path))
        if file is None:
            raise ReleaseError(f"{label}: expected layer_<n>.safetensors")
        tensors = Tensors(files.safetensors(path), label)
        weights = {
            "W_enc": tensors.take("W_enc", 2).t(),
            "b_enc": tensors.take("b_enc", 1),
            "W_dec": tensors.take("W_dec", 2),
            "b_dec": tensors.take("b_dec", 1),
        }
        tensors.end("this format's transcoders are ReLU ones with four tensors")
        d_in, d_sae = weights["W_enc"].shape
        d_out = weights["W_dec"].shape[1]
        training = self._training(files, folder, label, d_in, d_sae)
        metadata = {
            **self._hooks(files, folder, int(file[1])),
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
        """Refuse settings of training that contradict the weights."""
        for name in (posixpath.join(folder, one) for one in SETTINGS):
            if not files.has(name):
                continue
            table, where = files.yaml(name), f"{files.name}/{name}"
            same_size(label, "W_enc", d_in, f"{name}'s d_model",
                      setting(table, "d_model.value", int, where))  # fmt: skip
            same_size(label, "W_enc", d_sae, f"{name}'s d_feature",
                      setting(table, "d_feature.value", int, where))  # fmt: skip
            activation = setting(table, "act_fn.value", str, where)
            if activation not in (None, "relu"):
                raise ReleaseError(f'{where}: act_fn: expected "relu", got "{activation}"')
            # SAELens takes the batch size for the context's: one context was one batch.
            return {"context_size": setting(table, "batch_size.value", int, where)}
        return {}

    def _hooks(self, files: Repository, folder: str, layer: int) -> dict[str, Any]:
        """Model and hooks."""
        name = posixpath.join(folder, "config.yaml")
        table, where = {}, f"{files.name}/{name}"
        if files.has(name):
            table = files.yaml(name)
        size = re.search(r"qwen3-(\d+(?:\.\d+)?)b", files.name, re.IGNORECASE)
        model = setting(table, "model_name", str, where) or (
            f"Qwen/Qwen3-{size[1]}B" if size else None
        )
        read = setting(table, "feature_input_hook", str, where) or "mlp.hook_in"
        written = setting(table, "feature_output_hook", str, where) or "mlp.hook_out"
        # The output of the MLP, whichever of its two names is given.
        written = "hook_mlp_out" if written == "mlp.hook_out" else written
        return {
            "model_name": model,
            "hook_name": f"blocks.{layer}.{read}",
            "hook_name_out": f"blocks.{layer}.{written}",
        }


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="mwhanna",
        config=MwhannaConfig,
        build=Mwhanna,
        summary="mwhanna's per-layer ReLU transcoders (layer_<n>.safetensors)",
    )
