"""Gemma Scope 2: JumpReLU SAEs, transcoders and cross-layer transcoders of Gemma 3.

`{path}/params.safetensors` holds w_enc `[d_in, d_sae]`, w_dec `[d_sae, d_out]`, b_enc, b_dec,
threshold and, for affine transcoders, affine_skip_connection `[d_in, d_out]` (the transpose of
W_skip); nothing is subtracted from the input. `{path}/config.json` has model, hooks and L0; without
it they come from the repository's name (gemma-scope-2-…) and the path: resid_post, attn_out (which
reads hook_z with concatenated heads), mlp_out, transcoder, clt.

A cross-layer transcoder has one file per layer, `{path}.safetensors` with `params_layer_<n>` at the
end of the path, and w_dec `[d_sae, layers, d_out]`. Its decoder is summed over the layers, as in
SAELens; the sum does not reconstruct any of them, and a warning says so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Format, cross_layer_warning
from saecore.releases.tensor_reader import Tensors, same_size, setting
from saecore.storage.repository import Repository

if TYPE_CHECKING:
    from torch import Tensor

MLP = ("pre_feedforward_layernorm.output", "post_feedforward_layernorm.output")
"""Input and output of an MLP with its norms, as suffixes of module names."""

SITES = {
    "resid_post": ("output", "output"),
    "attn_out": ("self_attn.o_proj.input", "self_attn.o_proj.input"),
    "mlp_out": (MLP[1], MLP[1]),
    "transcoder": MLP,
    "clt": MLP,
}
"""Module suffixes of what an SAE reads and reconstructs, by the repository's folder."""

HOOKS = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    MLP[0]: "hook_mlp_in",
    MLP[1]: "hook_mlp_out",
}
"""Hook names within a block, by suffix of the module's name."""

CLT = re.compile(r"\bclt/.*\bparams_layer_\d+$")
"""Paths of layers of cross-layer transcoders: files without their extension."""


class GemmaScope2(Format):
    """Reads SAEs and transcoders of google/gemma-scope-2-*."""

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` has params.safetensors, or is a layer of a cross-layer transcoder."""
        return files.has(f"{path}/params.safetensors") or (
            CLT.search(f"{files.name}/{path}") is not None and files.has(f"{path}.safetensors")
        )

    def list(self, files: Repository) -> Sequence[str]:
        """List every such folder, and every such layer."""
        end = re.compile(r"(^|/)params\.safetensors$|\.safetensors$")
        paths = [end.sub("", name) for name in files.files if end.search(name)]
        return [path for path in paths if self.recognize(files, path)]

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read weights and configuration."""
        label = files.label(path)
        cross_layer = not files.has(f"{path}/params.safetensors")
        file = f"{path}.safetensors" if cross_layer else f"{path}/params.safetensors"
        tensors = Tensors(files.safetensors(file), files.label(file))
        weights = _weights(tensors, cross_layer)
        warnings = [cross_layer_warning(label)] if cross_layer else []
        name = posixpath.join(posixpath.dirname(path) if cross_layer else path, "config.json")
        table, where = files.json(name) if files.has(name) else {}, files.label(name)
        kind = setting(table, "architecture", str, where)
        if kind != "jump_relu" and (table or kind is not None):
            raise ReleaseError(f'{where}: architecture: expected "jump_relu", got {kind!r}')
        affine = setting(table, "affine_connection", bool, where)
        expected = "affine" in posixpath.basename(label) if affine is None else affine
        if expected != ("W_skip" in weights):
            raise ReleaseError(
                f"{files.label(file)}: {'no' if expected else 'unexpected'} affine_skip_connection,"
                f" but {'the path' if affine is None else where} says "
                f"affine = {str(expected).lower()}"
            )
        hf_in, hf_out = _modules(label, table, where)
        hook, out = _hook(hf_in, where), _hook(hf_out, where)
        metadata: dict[str, Any] = {
            "model_name": _model(setting(table, "model_name", str, where), files.name),
            "hook_name": hook,
            "hf_hook_name": hf_in,
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "monology/pile-uncopyrighted",
            "context_size": 1024,
        }
        if (l0 := setting(table, "l0", float, where)) is not None:
            metadata["l0"] = l0
        architecture = "jumprelu"
        if hook != out:
            metadata |= {"hook_name_out": out, "hf_hook_name_out": hf_out}
            architecture = f"jumprelu_{'skip_' if 'W_skip' in weights else ''}transcoder"
        sizes: dict[str, Any] = {"d_out": weights["W_dec"].shape[1]} if hook != out else {}
        return Draft.of(architecture, weights, metadata, warnings=warnings, **sizes)


def _weights(tensors: Tensors, cross_layer: bool) -> dict[str, Tensor]:
    """The tensors by parameter; w_dec of a cross-layer transcoder is summed over layers."""
    weights = {"W_enc": tensors.take("w_enc", 2)}
    decoder = tensors.take("w_dec", 3 if cross_layer else 2)
    weights["W_dec"] = decoder.float().sum(1) if cross_layer else decoder
    weights |= {name: tensors.take(name, 1) for name in ("b_enc", "b_dec", "threshold")}
    if "affine_skip_connection" in tensors.names:
        weights["W_skip"] = tensors.take("affine_skip_connection", 2).t()
    tensors.end()
    d_in, d_out = weights["W_enc"].shape[0], weights["W_dec"].shape[1]
    same_size(tensors.label, "w_dec", d_out, "w_enc's d_in", d_in)
    return weights


def _modules(label: str, table: dict[str, Any], where: str) -> tuple[str, str]:
    """The modules (of transformers) that the SAE reads and reconstructs."""
    layer = re.search(r"layer_(\d+)[^/]*$", label)
    configured = [setting(table, f"hf_hook_point_{end}", str, where) for end in ("in", "out")]
    site = re.search(rf"\b({'|'.join(SITES)})(_all)?/[^/]*$|\bclt/[^/]*/[^/]*$", label)
    names = []
    for name, default in zip(configured, SITES.get((site and site[1]) or "clt", MLP), strict=True):
        if name is None and (layer is None or site is None):
            raise ReleaseError(
                f"{label}: the hook is unknown; it comes from config.json or from a path like "
                f"<{'|'.join(SITES)}>/layer_<n>_…; keep one of them"
            )
        name = name or f"model.layers.{{all}}.{default}"
        names.append(name.replace("{all}", layer[1]) if layer is not None else name)
    return names[0], names[1]


def _hook(name: str, where: str) -> str:
    """The hook name of a module's input or output."""
    parts = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name)
    if parts is None or parts[2] not in HOOKS:
        raise ReleaseError(f"{where}: hf_hook_point: {name!r} is not a hook of this format")
    return f"blocks.{parts[1]}.{HOOKS[parts[2]]}"


def _model(configured: str | None, repository: str) -> str | None:
    """The model's name on the hub, from the configuration or the repository's name."""
    match = re.search(r"gemma-scope-2-([\w-]*)", repository)
    if configured is None and match is None:
        return None
    name = (
        (configured or f"gemma-3-{match and match[1]}").removeprefix("google/").replace("-v3", "-3")
    )
    return f"google/{name.removesuffix('-pt') if '270m' in name else name}"


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="gemma_scope_2",
        build=GemmaScope2,
        summary="Gemma Scope 2: SAEs and transcoders of Gemma 3 (params.safetensors)",
    )
