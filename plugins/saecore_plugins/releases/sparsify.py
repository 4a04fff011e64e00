"""sparsify (EleutherAI's SAEs and skip transcoders): `{hookpoint}/cfg.json`, `sae.safetensors`.

The tensors are encoder.weight `[d_sae, d]`, encoder.bias, W_dec `[d_sae, d]`, b_dec and, with
`skip_connection`, W_skip `[d, d]`. `activation` is "topk" (the k largest) or "groupmax" (the
largest in each of k equal groups of latents), both after ReLU; files of 2024 with `signed` keep the
k largest in absolute value, with their signs. b_dec is subtracted from the input unless `transcode`
is true; for transcoders that subtract it, it is folded into b_enc here. d_sae is `num_latents` or,
if that is 0 or missing, d_in times `expansion_factor`. `config.json` at the repository's root names
model, dataset and context size.

The folder is named after the module: `layers.3` (its output), `layers.3.mlp`, `layers.3.attention`
or `self_attn`, `h.3`, `h.3.mlp` and `h.3.attn` of GPT-2, `embed_tokens`. Transcoders read the
module's input. Before February 2025 they subtracted b_dec, and cfg.json had no key `transcode`.

SAELens 6.54 transposes W_dec, so it cannot read this format.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Folders
from saecore.releases.tensor_reader import Tensors, required, same_size, setting
from saecore.storage.files import contained
from saecore.storage.repository import Repository

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.sae import SAE

SITES = {
    "": ("hook_resid_pre", "hook_resid_post"),
    "mlp": ("mlp.hook_in", "hook_mlp_out"),
    "attention": (None, "hook_attn_out"),
    "self_attn": (None, "hook_attn_out"),
    "attn": (None, "hook_attn_out"),
}
"""Hooks of a module's input and output, by module of a block; None if it has no hook."""

EMBEDDINGS = ("embed_tokens", "embed_in", "wte")
"""Names of the embedding."""


class Sparsify(Folders):
    """Reads and writes files of sparsify's SparseCoder."""

    names = ("sae.safetensors", "cfg.json")

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read both files and the root's config.json."""
        name = posixpath.join(path, "sae.safetensors")
        config = posixpath.join(path, "cfg.json")
        label, where = files.label(name), files.label(config)
        table = files.json(config)
        root_config = posixpath.join(posixpath.dirname(path.rstrip("/")), "config.json")
        root = files.json(root_config) if files.has(root_config) else {}
        root_label = files.label(root_config)
        tensors = Tensors(files.safetensors(name), label)
        weights = {
            "W_enc": tensors.take("encoder.weight", 2).t(),
            "b_enc": tensors.take("encoder.bias", 1),
            "W_dec": tensors.take("W_dec", 2),
            "b_dec": tensors.take("b_dec", 1),
        }
        skip = setting(table, "skip_connection", bool, where) or False
        if skip:
            weights["W_skip"] = tensors.take("W_skip", 2)
        tensors.end("W_skip needs skip_connection = true in cfg.json")
        d_in, d_sae = weights["W_enc"].shape
        _check_sizes(table, where, label, d_in, d_sae)

        transcode = setting(table, "transcode", bool, where)
        old = skip or setting(root, "transcode", bool, root_label) or False
        reads_input = old if transcode is None else transcode
        if reads_input and not transcode:
            b_dec, W_enc = weights["b_dec"].float(), weights["W_enc"].float()
            if b_dec.shape[0] != d_in:
                raise ReleaseError(
                    f"{label}: b_dec is {list(b_dec.shape)}, which does not fit d_in = {d_in}"
                )
            weights["b_enc"] = weights["b_enc"].float() - b_dec @ W_enc
        transcoder = reads_input or skip
        model = setting(root, "model", str, root_label)
        metadata = {
            "model_name": model,
            **_hooks(_hookpoint(files, path), reads_input, model or ""),
            "dataset_path": setting(root, "dataset", str, root_label),
            "context_size": setting(root, "ctx_len", int, root_label),
        }
        settings = _architecture(table, where, transcoder, skip)
        settings |= (
            {"d_out": weights["W_dec"].shape[1]} if transcoder else {"apply_b_dec_to_input": True}
        )
        return Draft.of(settings.pop("architecture"), weights, metadata, **settings)

    def write(self, sae: SAE, directory: Path, sparsity: Tensor | None = None) -> None:
        """Write `{hookpoint}/cfg.json`, `{hookpoint}/sae.safetensors` and config.json above them.

        Raises:
            ReleaseError: SparseCoder cannot express this SAE.
        """
        from saecore.releases.build import weights
        from saecore.releases.export_form import Expressible, centered, inference_form
        from saecore.storage.files import write_json, write_tensors

        sae = inference_form(sae)
        can = Expressible("sparsify", sae)
        names = ("topk", "groupmax")
        kinds = ("transcoder", "skip_transcoder")
        can.architecture(*names, *(f"{name}_{kind}" for kind in kinds for name in names))
        can.check_processing()
        if sae.cfg.d_out != sae.cfg.d_in:
            raise can.refusal("d_out", sae.cfg.d_out, f"d_out = d_in (here {sae.cfg.d_in}) only")
        transcode, skip = sae.separate_target, hasattr(sae, "W_skip")
        ours = weights(centered(sae, not transcode))
        tensors: dict[str, Tensor] = {
            "encoder.weight": ours["W_enc"].t(),
            "encoder.bias": ours["b_enc"],
            **{name: ours[name] for name in ("W_dec", "b_dec", "W_skip") if name in ours},
        }
        config = sae.cfg.architecture_config
        table = {
            "activation": config.activation.name if transcode else sae.architecture,
            "expansion_factor": max(1, sae.cfg.d_sae // sae.cfg.d_in),
            "normalize_decoder": False,
            "num_latents": sae.cfg.d_sae,
            "k": config.activation.config.k if transcode else config.k,
            "multi_topk": False,
            "skip_connection": skip,
            "transcode": transcode,
            "d_in": sae.cfg.d_in,
        }
        metadata = sae.cfg.metadata
        hookpoint = _module(metadata, transcode)
        root = {"model": metadata.get("model_name"), "dataset": metadata.get("dataset_path"),
                "ctx_len": metadata.get("context_size"), "hookpoints": [hookpoint],
                "transcode": transcode}  # fmt: skip
        write_tensors(directory / hookpoint / "sae.safetensors", tensors)
        write_json(directory / hookpoint / "cfg.json", table)
        write_json(directory / "config.json", root)


def _check_sizes(table: dict[str, Any], where: str, label: str, d_in: int, d_sae: int) -> None:
    """Check the sizes in cfg.json against the weights."""
    same_size(label, "encoder.weight", d_in, "cfg.json's d_in", setting(table, "d_in", int, where))
    latents = setting(table, "num_latents", int, where)
    factor = setting(table, "expansion_factor", int, where)
    if latents:
        same_size(label, "encoder.weight", d_sae, "cfg.json's num_latents", latents)
    elif factor:
        same_size(label, "encoder.weight", d_sae, "d_in * expansion_factor", d_in * factor)


def _architecture(
    table: dict[str, Any], where: str, transcoder: bool, skip: bool
) -> dict[str, Any]:
    """The architecture and its settings."""
    activation = setting(table, "activation", str, where) or "topk"
    if activation not in ("topk", "groupmax"):
        raise ReleaseError(
            f'{where}: activation: expected "topk" or "groupmax", got "{activation}"'
        )
    if setting(table, "signed", bool, where):
        if activation == "groupmax":
            raise ReleaseError(f'{where}: signed: expected false with activation = "groupmax"')
        activation = "abstopk"
    k = required(table, "k", int, where)
    if transcoder:
        name = "skip_transcoder" if skip else "transcoder"
        return {"architecture": name, "activation": {"type": activation, "k": k}}
    return {"architecture": activation, "k": k}


def _hookpoint(files: Repository, path: str) -> str:
    """The folder's name, which is that of the module."""
    return posixpath.basename(posixpath.normpath(posixpath.join(files.name, path)))


def _hooks(hookpoint: str, reads_input: bool, model: str) -> dict[str, Any]:
    """Metadata: the hooks of a module; None if they have no name."""
    match = re.fullmatch(r"(?:layers|h)\.(\d+)(?:\.(\w+))?", hookpoint)
    before = after = None
    if match and (match[2] or "") in SITES:
        before, after = (
            f"blocks.{int(match[1])}.{end}" if end else None for end in SITES[match[2] or ""]
        )
        if match[2] and re.search("gemma-?[23]", model):
            after = f"model.{hookpoint}"  # their hook_mlp_out is after another norm
    elif hookpoint in EMBEDDINGS:
        after = "hook_embed"
    return {
        "hook_name": before if reads_input else after,
        "hook_name_out": after if reads_input else None,
        "sparsify_hookpoint": hookpoint,
    }


def _module(metadata: Mapping[str, Any], transcode: bool) -> str:
    """The folder for an SAE: the module of its hook, or of a transcoder's input hook."""
    recorded = metadata.get("sparsify_hookpoint")
    if isinstance(recorded, str) and contained(recorded):
        return recorded
    hook, model = metadata.get("hook_name") or "", metadata.get("model_name") or ""
    match = re.fullmatch(r"blocks\.(\d+)\.([\w.]+)", hook)
    blocks, attention = ("h", "attn") if "gpt2" in model else ("layers", "self_attn")
    attention = "attention" if "pythia" in model else attention
    for module in ("", "mlp", attention):
        if match and SITES[module][0 if transcode else 1] == match[2]:
            return f"{blocks}.{match[1]}{'.' if module else ''}{module}"
    return "embed_tokens" if hook == "hook_embed" else "sae"


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="sparsify",
        build=Sparsify,
        summary="EleutherAI's sparsify: SAEs and skip transcoders (cfg.json, sae.safetensors)",
    )
