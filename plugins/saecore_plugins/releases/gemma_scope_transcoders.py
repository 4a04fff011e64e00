"""Gemma Scope transcoders: from the input of a Gemma 2 MLP to its output, with JumpReLU.

`{path}/params.npz` in a repository named `gemma-scope-<model>-<pt|it>-transcoders` holds W_enc
`[d_in, d_sae]`, W_dec `[d_sae, d_out]`, b_enc, b_dec and threshold in float32, under these names or
older ones (`wenc`, `w_e`, …), in any case. Transcoders read ln2.hook_normalized, which is before
the norm's weight; nothing is subtracted from the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Folders
from saecore.releases.tensor_reader import Tensors, same_size
from saecore.storage.repository import Repository

NAME = re.compile(r"gemma-scope-(\d+b)-(pt|it)-transcoders\b")
"""Repository names: model, and pretrained or instruction-tuned."""

OTHERS = re.compile(r"gemma-scope-[\w-]+-(res|mlp|att)\b")
"""Names of repositories that hold SAEs in the same files."""

NAMES = {
    "w_enc": "W_enc", "wenc": "W_enc", "w_e": "W_enc",
    "w_dec": "W_dec", "wdec": "W_dec", "w_d": "W_dec",
    "b_enc": "b_enc", "benc": "b_enc", "b_e": "b_enc",
    "b_dec": "b_dec", "bdec": "b_dec", "b_d": "b_dec",
}  # fmt: skip
"""Array names in lower case, and the corresponding parameters."""


class GemmaScopeTranscoders(Folders):
    """Reads transcoders of google/gemma-scope-*-transcoders."""

    names = ("params.npz",)

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` has params.npz, in a repository that is not one of SAEs by its name."""
        return files.has(f"{path}/params.npz") and OTHERS.search(files.name) is None

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read params.npz."""
        file = f"{path}/params.npz"
        arrays = {
            NAMES.get(name.lower(), name.lower()): array for name, array in files.npz(file).items()
        }
        tensors = Tensors(arrays, files.label(file))
        weights = {name: tensors.take(name, 2) for name in ("W_enc", "W_dec")}
        weights |= {name: tensors.take(name, 1) for name in ("b_enc", "b_dec", "threshold")}
        tensors.end()
        d_in, d_out = weights["W_enc"].shape[0], weights["W_dec"].shape[1]
        same_size(tensors.label, "W_dec", d_out, "W_enc's d_in", d_in)
        label = files.label(path)
        name = NAME.search(label)
        inside = label[name.end() :] if name is not None else path
        layer, l0 = re.search(r"\blayer_(\d+)", inside), re.search(r"\baverage_l0_(\d+)", inside)
        if layer is None:
            raise ReleaseError(f"{label}: expected layer_<n> in the path, which gives the hook")
        metadata = {
            "model_name": name and f"gemma-2-{name[1]}{'-it' if name[2] == 'it' else ''}",
            "hook_name": f"blocks.{layer[1]}.ln2.hook_normalized",
            "hook_name_out": f"blocks.{layer[1]}.hook_mlp_out",
            "hook_head_index": None,
            "hook_head_index_out": None,
            "prepend_bos": True,
            "dataset_path": "monology/pile-uncopyrighted",
            "context_size": 1024,
            **({"l0": int(l0[1])} if l0 is not None else {}),
        }
        return Draft.of("jumprelu_transcoder", weights, metadata, d_out=d_out)


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="gemma_scope_transcoders",
        build=GemmaScopeTranscoders,
        summary="Gemma Scope: JumpReLU transcoders of Gemma 2's MLPs (params.npz)",
    )
