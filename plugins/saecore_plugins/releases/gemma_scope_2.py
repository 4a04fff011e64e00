"""Gemma Scope 2: JumpReLU SAEs, transcoders and cross-layer transcoders of Gemma 3.

`{path}/params.safetensors` holds w_enc `[d_in, d_sae]`, w_dec `[d_sae, d_out]`, b_enc, b_dec,
threshold and, for affine transcoders, affine_skip_connection `[d_in, d_out]` (our W_skip is its
transpose); nothing is subtracted from the input. `{path}/config.json` says model, hooks and L0;
where it is missing, they follow from the repository's name (gemma-scope-2-…) and from the path:
resid_post, attn_out (which reads hook_z, heads joined), mlp_out, transcoder, clt.

A cross-layer transcoder is one file a layer, `{path}.safetensors` with `params_layer_<n>` at the
end of the path, and w_dec `[d_sae, layers, d_out]`. Its decoder is summed over the layers, as
SAELens does, which is no reconstruction of any of them: a warning says so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.layout import Format
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors, same_size, setting

if TYPE_CHECKING:
    from torch import Tensor

MLP = ("pre_feedforward_layernorm.output", "post_feedforward_layernorm.output")
"""Input and output of an MLP with its norms, as ends of module names."""

SITES = {
    "resid_post": ("output", "output"),
    "attn_out": ("self_attn.o_proj.input", "self_attn.o_proj.input"),
    "mlp_out": (MLP[1], MLP[1]),
    "transcoder": MLP,
    "clt": MLP,
}
"""Folders of the repositories: the ends of the names of what is read and reconstructed."""

HOOKS = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    MLP[0]: "hook_mlp_in",
    MLP[1]: "hook_mlp_out",
}
"""Ends of our hooks' names by ends of module names."""

CLT = re.compile(r"\bclt/.*\bparams_layer_\d+$")
"""Paths of cross-layer transcoders' layers, which are files without their ending."""


@attrs.frozen
class GemmaScope2Config:
    """This format has no settings."""


class GemmaScope2(Format):
    """Reads SAEs and transcoders of google/gemma-scope-2-*."""

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` has params.safetensors, or is a layer of a cross-layer transcoder."""
        return files.has(f"{path}/params.safetensors") or (
            CLT.search(f"{files.name}/{path}") is not None and files.has(f"{path}.safetensors")
        )

    def list(self, files: Repository) -> Sequence[str]:
        """Every such folder, and every such layer."""
        end = re.compile(r"(^|/)params\.safetensors$|\.safetensors$")
        paths = [end.sub("", one) for one in files.files if end.search(one)]
        return [one for one in paths if self.recognise(files, one)]

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read weights and configuration."""
        place = posixpath.normpath(f"{files.name}/{path}")
        across = not files.has(f"{path}/params.safetensors")
        file = f"{path}.safetensors" if across else f"{path}/params.safetensors"
        tensors = Tensors(files.safetensors(file), f"{files.name}/{file}")
        weights, warnings = _weights(tensors, across), []
        if across:
            warnings = [
                f"{place}: one layer of a cross-layer transcoder: its features are right, its "
                "reconstruction is not, for other layers contribute to every target"
            ]
        name = posixpath.join(posixpath.dirname(path) if across else path, "config.json")
        table, where = files.json(name) if files.has(name) else {}, f"{files.name}/{name}"
        kind = setting(table, "architecture", str, where)
        if kind != "jump_relu" and (table or kind is not None):
            raise ReleaseError(f'{where}: architecture: expected "jump_relu", got {kind!r}')
        affine = setting(table, "affine_connection", bool, where)
        said = "affine" in posixpath.basename(place) if affine is None else affine
        if said != ("W_skip" in weights):
            raise ReleaseError(
                f"{files.name}/{file}: {'no' if said else 'unexpected'} affine_skip_connection, "
                f"but {'the path' if affine is None else where} says affine = {str(said).lower()}"
            )
        hf_in, hf_out = _modules(place, table, where)
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
        own: dict[str, Any] = {"d_out": weights["W_dec"].shape[1]} if hook != out else {}
        return Draft.of(
            architecture,
            weights,
            metadata,
            warnings=warnings,
            **own,
        )


def _weights(tensors: Tensors, across: bool) -> dict[str, Tensor]:
    """The tensors under our names; `across` layers w_dec has one dimension more."""
    weights = {"W_enc": tensors.take("w_enc", 2)}
    decoder = tensors.take("w_dec", 3 if across else 2)
    weights["W_dec"] = decoder.float().sum(1) if across else decoder
    weights |= {name: tensors.take(name, 1) for name in ("b_enc", "b_dec", "threshold")}
    if "affine_skip_connection" in tensors.names:
        weights["W_skip"] = tensors.take("affine_skip_connection", 2).t()
    tensors.end()
    d_in, d_out = weights["W_enc"].shape[0], weights["W_dec"].shape[1]
    same_size(tensors.label, "w_dec", d_out, "w_enc's d_in", d_in)
    return weights


def _modules(place: str, table: dict[str, Any], where: str) -> tuple[str, str]:
    """What is read and reconstructed, as modules of transformers."""
    layer = re.search(r"layer_(\d+)[^/]*$", place)
    found = [setting(table, f"hf_hook_point_{one}", str, where) for one in ("in", "out")]
    site = re.search(rf"\b({'|'.join(SITES)})(_all)?/[^/]*$|\bclt/[^/]*/[^/]*$", place)
    names = []
    for one, default in zip(found, SITES.get((site and site[1]) or "clt", MLP), strict=True):
        if one is None and (layer is None or site is None):
            raise ReleaseError(
                f"{place}: which hook it reads is said by config.json or by a path like "
                f"<{'|'.join(SITES)}>/layer_<n>_…; keep one of them"
            )
        name = one or f"model.layers.{{all}}.{default}"
        names.append(name.replace("{all}", layer[1]) if layer is not None else name)
    return names[0], names[1]


def _hook(name: str, where: str) -> str:
    """Our name of a module's input or output."""
    parts = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name)
    if parts is None or parts[2] not in HOOKS:
        raise ReleaseError(f"{where}: hf_hook_point: {name!r} is not a hook of this format")
    return f"blocks.{parts[1]}.{HOOKS[parts[2]]}"


def _model(named: str | None, repository: str) -> str | None:
    """The model's name on the hub, from the configuration or from the repository's name."""
    found = re.search(r"gemma-scope-2-([\w-]*)", repository)
    if named is None and found is None:
        return None
    name = (named or f"gemma-3-{found and found[1]}").removeprefix("google/").replace("-v3", "-3")
    return f"google/{name.removesuffix('-pt') if '270m' in name else name}"


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="gemma_scope_2",
        config=GemmaScope2Config,
        build=GemmaScope2,
        summary="Gemma Scope 2: SAEs and transcoders of Gemma 3 (params.safetensors)",
    )
