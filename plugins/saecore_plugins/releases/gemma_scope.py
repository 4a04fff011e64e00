"""Gemma Scope: JumpReLU SAEs of Gemma 2's residual stream, MLP outputs and attention heads.

`{path}/params.npz` holds W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_in]`, b_enc, b_dec and threshold,
in float32 (`w_enc`, `w_dec` in some); there is no configuration. b_dec is not subtracted from the
input. The repository's name, `gemma-scope-<model>-<pt|it>-<res|mlp|att>`, gives site and model; the
path gives the layer and the published L0. Attention SAEs read hook_z with concatenated heads.

Embedding SAEs were trained on embeddings before Gemma multiplies them by sqrt(d): W_enc is divided
by it, W_dec and b_dec are multiplied. (SAELens 6.54 does not scale b_dec.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Folders
from saecore.releases.tensor_reader import Tensors
from saecore.storage.repository import Repository

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.sae import SAE

NAME = re.compile(r"gemma-scope-(\d+b)-(pt|it)-(res|mlp|att)\b")
"""Repository names: model, pretrained or instruction-tuned, and site."""

OTHERS = re.compile(r"gemma-scope-[\w-]+-transcoders\b")
"""Names of repositories that hold transcoders in the same files."""

HOOKS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
"""Hook names within a block, by site."""


class GemmaScope(Folders):
    """Reads SAEs of google/gemma-scope-*."""

    names = ("params.npz",)

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` has params.npz, in a repository that is not one of transcoders by name."""
        return files.has(f"{path}/params.npz") and OTHERS.search(files.name) is None

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read params.npz."""
        file = f"{path}/params.npz"
        arrays = {re.sub("^w_", "W_", name): array for name, array in files.npz(file).items()}
        tensors = Tensors(arrays, files.label(file))
        weights = {name: tensors.take(name, 2) for name in ("W_enc", "W_dec")}
        weights |= {name: tensors.take(name, 1) for name in ("b_enc", "b_dec", "threshold")}
        tensors.end()
        d_in = weights["W_enc"].shape[0]
        label = files.label(path)
        name = NAME.search(label)
        inside = label[name.end() :] if name is not None else path
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
                f"{label}: the hook is unknown; it comes from the repository's name "
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
            ReleaseError: the SAE has no thresholds or does not read a site of Gemma 2, or
                `directory` is not named like the repository of that site and model.
        """
        import numpy
        import torch

        from saecore.releases.build import weights
        from saecore.releases.export_form import Expressible, centered, inference_form
        from saecore.storage.files import written

        sae = inference_form(sae)
        can = Expressible("gemma_scope", sae)
        architecture = can.architecture("standard", "jumprelu")
        metadata = sae.cfg.metadata
        model, hook = metadata.get("model_name"), metadata.get("hook_name")
        parts = re.fullmatch(r"(?:google/)?gemma-2-(\d+b)(-it)?", model or "")
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook or "")
        sites = {end: site for site, end in HOOKS.items()}
        if parts is None:
            raise can.refusal("model_name", model, "Gemma 2's models")
        if block is None or block[2] not in sites:
            raise can.refusal("hook_name", hook, f"blocks.<n>.{', '.join(sites)}")
        can.check_processing("hook_z" if sites[block[2]] == "att" else "none")
        name = f"gemma-scope-{parts[1]}-{'it' if parts[2] else 'pt'}-{sites[block[2]]}"
        if directory.name != name:
            raise ReleaseError(
                f"{directory.name}: this format has model and site in the repository's name; "
                f"OUT must end with {name}"
            )
        tensors = weights(centered(sae, False))
        if architecture == "standard":
            tensors["threshold"] = torch.zeros(sae.cfg.d_sae)
        size = sae.cfg.d_sae
        folder = f"layer_{block[1]}/width_{f'{size // 1024}k' if size % 1024 == 0 else size}"
        if isinstance(l0 := metadata.get("l0"), int | float):
            folder += f"/average_l0_{round(l0)}"
        arrays: dict[str, Any] = {
            key: tensor.detach().float().contiguous().numpy() for key, tensor in tensors.items()
        }
        with written(directory / folder / "params.npz", setting="OUT") as file:
            numpy.savez(file, **arrays)


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="gemma_scope",
        build=GemmaScope,
        summary="Gemma Scope: JumpReLU SAEs of Gemma 2 (params.npz)",
    )
