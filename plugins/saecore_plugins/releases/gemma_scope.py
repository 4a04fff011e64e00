"""Gemma Scope: JumpReLU SAEs of Gemma 2 on residual stream, MLP and attention outputs.

`{path}/params.npz` holds W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_in]`, b_enc, b_dec and threshold,
in float32 (`w_enc`, `w_dec` in some); there is no configuration. b_dec is not subtracted from the
input. Site and model follow from the repository's name,
`gemma-scope-<model>-<pt|it>-<res|mlp|att>`, and the layer and the published L0 from the path. SAEs
of attention read hook_z, heads joined.

SAEs of the embedding were trained on embeddings before Gemma multiplies them by sqrt(d): W_enc is
divided, W_dec and b_dec are multiplied by it. (SAELens 6.54 leaves b_dec as it is.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.layout import Folders
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.sae import SAE

NAME = re.compile(r"gemma-scope-(\d+b)-(pt|it)-(res|mlp|att)\b")
"""Names of repositories: model, pretrained or instruction-tuned, and site."""

OTHERS = re.compile(r"gemma-scope-[\w-]+-transcoders\b")
"""Names of repositories with the same files that hold no SAEs."""

HOOKS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
"""Ends of the hooks' names by site."""


@attrs.frozen
class GemmaScopeConfig:
    """This format has no settings."""


class GemmaScope(Folders):
    """Reads SAEs of google/gemma-scope-*."""

    names = ("params.npz",)

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` has params.npz in a repository whose name does not say transcoders."""
        return files.has(f"{path}/params.npz") and OTHERS.search(files.name) is None

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read params.npz."""
        file = f"{path}/params.npz"
        arrays = {re.sub("^w_", "W_", name): one for name, one in files.npz(file).items()}
        tensors = Tensors(arrays, f"{files.name}/{file}")
        weights = {name: tensors.take(name, 2) for name in ("W_enc", "W_dec")}
        weights |= {name: tensors.take(name, 1) for name in ("b_enc", "b_dec", "threshold")}
        tensors.end()
        d_in = weights["W_enc"].shape[0]
        place = f"{files.name}/{path}"
        name = NAME.search(place)
        inside = place[name.end() :] if name is not None else path
        embedding = re.search(r"\bembedding\b", inside) is not None
        if embedding:
            root = d_in**0.5
            weights["W_enc"] = weights["W_enc"] / root
            weights |= {name: weights[name] * root for name in ("W_dec", "b_dec")}
        layer, l0 = re.search(r"\blayer_(\d+)", inside), re.search(r"\baverage_l0_(\d+)", inside)
        hook = "hook_embed" if embedding else facts.hook
        if name is not None and layer is not None:
            hook = f"blocks.{layer[1]}.{HOOKS[name[3]]}"
        if hook is None:
            raise ReleaseError(
                f"{place}: which hook it reads is said by the repository's name "
                "(gemma-scope-<model>-<pt|it>-<res|mlp|att>) and layer_<n> in the path; keep them"
            )
        metadata = {
            "model_name": name and f"gemma-2-{name[1]}{'-it' if name[2] == 'it' else ''}",
            "hook_name": hook,
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "monology/pile-uncopyrighted",
            "context_size": 1024,
            **({"l0": int(l0[1])} if l0 is not None else {}),
        }
        return Draft.of("jumprelu", weights, metadata)

    def write(self, sae: SAE, directory: Path, sparsity: Tensor | None = None) -> None:
        """Write `layer_<n>/width_<size>/average_l0_<n>/params.npz`; ReLU is a threshold of 0.

        Raises:
            ReleaseError: it is no SAE with thresholds of a site of Gemma 2; or `directory` is not
                called as the repository of that site and model.
        """
        import numpy
        import torch

        from saecore.files import written
        from saecore.releases.build import weights
        from saecore.releases.writing import Expressible, centred, published

        sae = published(sae)
        can = Expressible("gemma_scope", sae)
        architecture = can.architecture("standard", "jumprelu")
        metadata = sae.cfg.metadata
        model, hook = metadata.get("model_name"), metadata.get("hook_name")
        tuned = re.fullmatch(r"(?:google/)?gemma-2-(\d+b)(-it)?", model or "")
        place = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook or "")
        sites = {one: site for site, one in HOOKS.items()}
        if tuned is None:
            raise can.refused("model_name", model, "Gemma 2's models")
        if place is None or place[2] not in sites:
            raise can.refused("hook_name", hook, f"blocks.<n>.{', '.join(sites)}")
        can.plain("hook_z" if sites[place[2]] == "att" else "none")
        name = f"gemma-scope-{tuned[1]}-{'it' if tuned[2] else 'pt'}-{sites[place[2]]}"
        if directory.name != name:
            raise ReleaseError(
                f"{directory.name}: this format says model and site in the repository's name: "
                f"OUT must end with {name}"
            )
        own = weights(centred(sae, False))
        if architecture == "standard":
            own["threshold"] = torch.zeros(sae.cfg.d_sae)
        size = sae.cfg.d_sae
        folder = f"layer_{place[1]}/width_{f'{size // 1024}k' if size % 1024 == 0 else size}"
        if isinstance(l0 := metadata.get("l0"), int | float):
            folder += f"/average_l0_{round(l0)}"
        arrays: dict[str, Any] = {
            key: one.detach().float().contiguous().numpy() for key, one in own.items()
        }
        with written(directory / folder / "params.npz", setting="OUT") as file:
            numpy.savez(file, **arrays)


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
