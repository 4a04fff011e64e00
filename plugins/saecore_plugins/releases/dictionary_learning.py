"""dictionary_learning (saprmarks, and SAEBench's SAEs): `{path}/ae.pt` and `config.json`.

`trainer.dict_class` gives the meaning of the tensors:

- AutoEncoder (standard and p-annealing): bias (the decoder's), encoder.*, decoder.weight; ReLU.
- AutoEncoderNew: encoder.*, decoder.*; ReLU; the decoder's bias is not subtracted from the input.
- GatedAutoEncoder: decoder_bias, encoder.weight, decoder.weight, gate_bias, mag_bias, r_mag.
- AutoEncoderTopK: b_dec, encoder.*, decoder.weight; k is `trainer.k` (and a tensor since 2025).
- BatchTopKSAE: the same with one threshold for all latents: JumpReLU.
- MatryoshkaBatchTopKSAE: W_enc `[d, d_sae]`, W_dec, b_enc, b_dec and one threshold: JumpReLU.
- JumpReluAutoEncoder: the same with a threshold for each latent; b_dec is not subtracted.

`*.weight` are `[out, in]`. A threshold of -1 was not learned and means plain ReLU. The library's
AutoEncoder.from_pretrained scales decoder columns to unit norm and features by the norms; here both
are as stored (`fold_W_dec_norm=True` scales them).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError, nearest
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Folders
from saecore.releases.tensor_reader import Tensors, required, same_size, setting
from saecore.storage.repository import Repository

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.sae import SAE

LINEAR = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
"""Parameters by tensor, for classes with linear layers."""

MATRICES = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
"""Parameters by tensor, for classes without linear layers."""

GATED = {"encoder.weight": "W_enc", "decoder.weight": "W_dec", "decoder_bias": "b_dec",
         "gate_bias": "b_gate", "mag_bias": "b_mag", "r_mag": "r_mag"}  # fmt: skip
"""Parameters by tensor, for the gated class."""


@attrs.frozen(kw_only=True)
class Class:
    """A class of the library: its tensors and the corresponding architecture."""

    names: dict[str, str]
    """Parameters by tensor in the file; `*.weight` are transposed."""
    architecture: str
    """The corresponding architecture."""
    centered: bool = True
    """Whether the decoder's bias is subtracted from the input."""
    threshold: str | None = None
    """"all" for one threshold shared by all latents, "each" for one threshold per latent."""


CLASSES = {
    "AutoEncoder": Class(names={**LINEAR, "bias": "b_dec"}, architecture="standard"),
    "AutoEncoderNew": Class(
        names={**LINEAR, "decoder.bias": "b_dec"}, architecture="standard", centered=False
    ),
    "GatedAutoEncoder": Class(names=GATED, architecture="gated"),
    "AutoEncoderTopK": Class(names={**LINEAR, "b_dec": "b_dec"}, architecture="topk"),
    "BatchTopKSAE": Class(
        names={**LINEAR, "b_dec": "b_dec"}, architecture="jumprelu", threshold="all"
    ),
    "MatryoshkaBatchTopKSAE": Class(names=MATRICES, architecture="jumprelu", threshold="all"),
    "JumpReluAutoEncoder": Class(
        names=MATRICES, architecture="jumprelu", centered=False, threshold="each"
    ),
}
"""The library's classes, by name."""

SITES = {"resid_pre": "hook_resid_pre", "resid_mid": "hook_resid_mid",
         "resid_post": "hook_resid_post", "mlp_out": "hook_mlp_out",
         "attn_out": "hook_attn_out", "attention_out": "hook_attn_out"}  # fmt: skip
"""Hooks by site, from submodule names `<site>_layer_<n>`."""


class DictionaryLearning(Folders):
    """Reads and writes files of dictionary_learning's trainers."""

    names = ("ae.pt", "config.json")

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read both files."""
        name, config = posixpath.join(path, "ae.pt"), posixpath.join(path, "config.json")
        label, where = files.label(name), files.label(config)
        table = files.json(config)
        cls = _class(table, where)
        tensors = Tensors(files.torch(name), label)
        weights = _weights(tensors, cls, required(table, "trainer.dict_class", str, where))
        k = setting(table, "trainer.k", int, where)
        if "k" in tensors.names:
            same_size(label, "tensor k", int(tensors.number("k")), "config.json's trainer.k", k)
        tensors.drop(["threshold", "group_sizes"])
        tensors.end("config.json's trainer.dict_class may be wrong")
        d_in, d_sae = weights["W_enc"].shape
        same_size(label, "the encoder", d_in, "config.json's trainer.activation_dim",
                  setting(table, "trainer.activation_dim", int, where))  # fmt: skip
        same_size(label, "the encoder", d_sae, "config.json's trainer.dict_size",
                  setting(table, "trainer.dict_size", int, where))  # fmt: skip
        settings: dict[str, Any] = {"apply_b_dec_to_input": cls.centered}
        if cls.architecture == "topk":
            settings["k"] = required(table, "trainer.k", int, where)
        return Draft.of(cls.architecture, weights, _metadata(table, where), **settings)

    def write(self, sae: SAE, directory: Path, sparsity: Tensor | None = None) -> None:
        """Write ae.pt and config.json.

        Raises:
            ReleaseError: no class of the library can express this SAE.
        """
        import torch

        from saecore.releases.build import weights
        from saecore.releases.export_form import Expressible, centered, inference_form
        from saecore.storage.files import write_json, written

        sae = inference_form(sae)
        can = Expressible("dictionary_learning", sae)
        architecture = can.architecture("standard", "gated", "topk", "jumprelu")
        can.check_processing()
        standard = "AutoEncoder" if sae.center is not None else "AutoEncoderNew"
        name = {"standard": standard, "gated": "GatedAutoEncoder", "topk": "AutoEncoderTopK",
                "jumprelu": "JumpReluAutoEncoder"}[architecture]  # fmt: skip
        ours = weights(centered(sae, CLASSES[name].centered))
        tensors = {
            key: ours[parameter].t() if key.endswith(".weight") else ours[parameter]
            for key, parameter in CLASSES[name].names.items()
        }
        trainer = {"dict_class": name, "activation_dim": sae.cfg.d_in, "dict_size": sae.cfg.d_sae}
        if architecture == "jumprelu":
            tensors["threshold"] = ours["threshold"]
        if architecture == "topk":
            trainer["k"] = sae.cfg.k
            tensors["k"] = torch.tensor(sae.cfg.k, dtype=torch.int)
            tensors["threshold"] = torch.tensor(-1.0)  # not learned
        table = {
            "trainer": {**trainer, **_trainer_settings(sae.cfg.metadata)},
            "buffer": {"io": "out", "ctx_len": sae.cfg.metadata.get("context_size")},
        }
        with written(directory / "ae.pt", setting="OUT") as file:
            torch.save({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, file)
        write_json(directory / "config.json", table)


def _class(table: dict[str, Any], where: str) -> Class:
    name = required(table, "trainer.dict_class", str, where)
    if name not in CLASSES:
        raise ReleaseError(
            f'{where}: trainer.dict_class: unknown class "{name}"{nearest(name, [*CLASSES])} '
            f"(known: {', '.join(CLASSES)})"
        )
    return CLASSES[name]


def _weights(tensors: Tensors, cls: Class, name: str) -> dict[str, Tensor]:
    """The tensors of a class, by parameter."""
    matching = [other for other, entry in CLASSES.items() if set(entry.names) <= tensors.names]
    if matching and name not in matching:
        raise ReleaseError(
            f"{tensors.label}: config.json's trainer.dict_class is {name}, but these are the "
            f"tensors of {' or '.join(matching)}"
        )
    weights = {}
    for key, parameter in cls.names.items():
        tensor = tensors.take(key, 2 if parameter.startswith("W_") else 1)
        weights[parameter] = tensor.t() if key.endswith(".weight") else tensor
    if cls.threshold == "each":
        weights["threshold"] = tensors.take("threshold", 1)
    elif cls.threshold == "all":
        threshold = tensors.take("threshold", 0)
        weights["threshold"] = threshold.expand(weights["W_enc"].shape[1])
    return weights


def _metadata(table: dict[str, Any], where: str) -> dict[str, Any]:
    """Model, hook and context size; the hook is None for unknown submodules."""
    submodule = setting(table, "trainer.submodule_name", str, where)
    layer = setting(table, "trainer.layer", int, where)
    if submodule is None and layer is not None:
        submodule = f"resid_post_layer_{layer}"
    site, _, number = (submodule or "").rpartition("_layer_")
    hook = None
    if setting(table, "buffer.io", str, where) in (None, "out"):
        if site in SITES and re.fullmatch("[0-9]{1,4}", number):
            hook = f"blocks.{int(number)}.{SITES[site]}"
        elif submodule is not None and re.match(r"blocks\.\d|hook_", submodule):
            hook = submodule  # as `write` stores hooks without a site
    return {
        "model_name": setting(table, "trainer.lm_name", str, where),
        "hook_name": hook,
        "hook_head_index": None,
        "prepend_bos": True,
        "dataset_path": "monology/pile-uncopyrighted",
        "context_size": setting(table, "buffer.ctx_len", int, where),
    }


def _trainer_settings(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Layer, model and submodule as settings of a trainer."""
    hook = metadata.get("hook_name")
    match = re.fullmatch(r"blocks\.(\d+)\.(\w+)", hook or "")
    sites = {name: site for site, name in SITES.items() if site != "attention_out"}
    submodule = hook
    if match and match[2] in sites:
        submodule = f"{sites[match[2]]}_layer_{match[1]}"
    return {
        "layer": int(match[1]) if match else None,
        "lm_name": metadata.get("model_name"),
        "submodule_name": submodule,
    }


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="dictionary_learning",
        build=DictionaryLearning,
        summary="dictionary_learning, all classes (ae.pt, config.json)",
    )
