"""dictionary_learning (saprmarks, and SAEBench's SAEs): `{path}/ae.pt` and `config.json`.

`trainer.dict_class` says what the tensors mean:

- AutoEncoder (standard and p-annealing): bias (of the decoder), encoder.*, decoder.weight; ReLU.
- AutoEncoderNew: encoder.*, decoder.*; ReLU; the decoder's bias is not subtracted from the input.
- GatedAutoEncoder: decoder_bias, encoder.weight, decoder.weight, gate_bias, mag_bias, r_mag.
- AutoEncoderTopK: b_dec, encoder.*, decoder.weight; k is `trainer.k` (and a tensor since 2025).
- BatchTopKSAE: the same and one threshold, above which features are active: JumpReLU.
- MatryoshkaBatchTopKSAE: W_enc `[d, d_sae]`, W_dec, b_enc, b_dec and one threshold: JumpReLU.
- JumpReluAutoEncoder: the same with a threshold for each latent; b_dec is not subtracted.

`*.weight` are `[out, in]`. A threshold of -1 was not learned: plain ReLU. The library's own
AutoEncoder.from_pretrained gives decoder columns unit norm, which multiplies features by the norms;
here they are as stored (`fold_W_dec_norm=True` gives those).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError, nearest
from saecore.hookspecs import hookimpl
from saecore.releases.layout import Folders
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors, required, same_size, setting

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.sae import SAE

LINEAR = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
"""Names of the library's linear layers."""

MATRICES = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
"""Names of the classes without linear layers."""

GATED = {"encoder.weight": "W_enc", "decoder.weight": "W_dec", "decoder_bias": "b_dec",
         "gate_bias": "b_gate", "mag_bias": "b_mag", "r_mag": "r_mag"}  # fmt: skip
"""Names of the gated class."""


@attrs.frozen
class Class:
    """One class of the library: what its tensors are called here, and what it computes."""

    names: dict[str, str]
    """Tensors of the file to tensors of ours; `*.weight` are transposed."""
    architecture: str
    """What it computes."""
    centred: bool = True
    """Whether the decoder's bias is subtracted from the input."""
    threshold: str | None = None
    """"all" where one number is the threshold of every latent, "each" where each has its own."""


CLASSES = {
    "AutoEncoder": Class({**LINEAR, "bias": "b_dec"}, "standard"),
    "AutoEncoderNew": Class({**LINEAR, "decoder.bias": "b_dec"}, "standard", centred=False),
    "GatedAutoEncoder": Class(GATED, "gated"),
    "AutoEncoderTopK": Class({**LINEAR, "b_dec": "b_dec"}, "topk"),
    "BatchTopKSAE": Class({**LINEAR, "b_dec": "b_dec"}, "jumprelu", threshold="all"),
    "MatryoshkaBatchTopKSAE": Class(MATRICES, "jumprelu", threshold="all"),
    "JumpReluAutoEncoder": Class(MATRICES, "jumprelu", centred=False, threshold="each"),
}
"""The library's classes by name."""

SITES = {"resid_pre": "hook_resid_pre", "resid_mid": "hook_resid_mid",
         "resid_post": "hook_resid_post", "mlp_out": "hook_mlp_out",
         "attn_out": "hook_attn_out", "attention_out": "hook_attn_out"}  # fmt: skip
"""Submodules, `<site>_layer_<n>`, and their hooks."""


@attrs.frozen
class DictionaryLearningConfig:
    """This format has no settings."""


class DictionaryLearning(Folders):
    """Reads what dictionary_learning's trainers save."""

    names = ("ae.pt", "config.json")

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read both files."""
        name, source = (posixpath.join(path, one) for one in ("ae.pt", "config.json"))
        label, where = f"{files.name}/{name}", f"{files.name}/{source}"
        table = files.json(source)
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
        own: dict[str, Any] = {"apply_b_dec_to_input": cls.centred}
        if cls.architecture == "topk":
            own["k"] = required(table, "trainer.k", int, where)
        return Draft.of(cls.architecture, weights, _metadata(table, where), **own)

    def write(self, sae: SAE, directory: Path, sparsity: Tensor | None = None) -> None:
        """Write ae.pt and config.json.

        Raises:
            ReleaseError: the library has no class that computes this SAE.
        """
        import torch

        from saecore.files import write_json, written
        from saecore.releases.build import weights
        from saecore.releases.writing import Expressible, centred, published

        sae = published(sae)
        can = Expressible("dictionary_learning", sae)
        architecture = can.architecture("standard", "gated", "topk", "jumprelu")
        can.plain()
        plain = "AutoEncoder" if sae.centre is not None else "AutoEncoderNew"
        name = {"standard": plain, "gated": "GatedAutoEncoder", "topk": "AutoEncoderTopK",
                "jumprelu": "JumpReluAutoEncoder"}[architecture]  # fmt: skip
        own = weights(centred(sae, CLASSES[name].centred))
        tensors = {theirs: own[ours].t() if theirs.endswith(".weight") else own[ours]
                   for theirs, ours in CLASSES[name].names.items()}  # fmt: skip
        trainer = {"dict_class": name, "activation_dim": sae.cfg.d_in, "dict_size": sae.cfg.d_sae}
        if architecture == "jumprelu":
            tensors["threshold"] = own["threshold"]
        if architecture == "topk":
            trainer["k"] = sae.cfg.k
            tensors["k"] = torch.tensor(sae.cfg.k, dtype=torch.int)
            tensors["threshold"] = torch.tensor(-1.0)  # not learned
        table = {
            "trainer": {**trainer, **_described(sae.cfg.metadata)},
            "buffer": {"io": "out", "ctx_len": sae.cfg.metadata.get("context_size")},
        }
        with written(directory / "ae.pt", setting="OUT") as file:
            torch.save({key: one.detach().contiguous() for key, one in tensors.items()}, file)
        write_json(directory / "config.json", table)


def _class(table: dict[str, Any], where: str) -> Class:
    name = required(table, "trainer.dict_class", str, where)
    if name not in CLASSES:
        raise ReleaseError(
            f'{where}: trainer.dict_class: no class "{name}" is known{nearest(name, [*CLASSES])} '
            f"(known: {', '.join(CLASSES)})"
        )
    return CLASSES[name]


def _weights(tensors: Tensors, cls: Class, name: str) -> dict[str, Tensor]:
    """The tensors of a class under our names."""
    fits = [other for other, one in CLASSES.items() if set(one.names) <= tensors.names]
    if fits and name not in fits:
        raise ReleaseError(
            f"{tensors.label}: config.json's trainer.dict_class is {name}, but these are the "
            f"tensors of {' or '.join(fits)}"
        )
    weights = {}
    for theirs, ours in cls.names.items():
        matrix = ours.startswith("W_")
        tensor = tensors.take(theirs, 2 if matrix else 1)
        weights[ours] = tensor.t() if theirs.endswith(".weight") else tensor
    if cls.threshold == "each":
        weights["threshold"] = tensors.take("threshold", 1)
    elif cls.threshold == "all":
        threshold = tensors.take("threshold", 0)
        weights["threshold"] = threshold.expand(weights["W_enc"].shape[1])
    return weights


def _metadata(table: dict[str, Any], where: str) -> dict[str, Any]:
    """Model, hook and context; a submodule that is not known leaves the hook open."""
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
            hook = submodule  # the name itself, as `write` gives it where no site has it
    return {
        "model_name": setting(table, "trainer.lm_name", str, where),
        "hook_name": hook,
        "hook_head_index": None,
        "prepend_bos": True,
        "dataset_path": "monology/pile-uncopyrighted",
        "context_size": setting(table, "buffer.ctx_len", int, where),
    }


def _described(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Model and hook as a trainer's settings."""
    hook = metadata.get("hook_name")
    found = re.fullmatch(r"blocks\.(\d+)\.(\w+)", hook or "")
    sites = {one: site for site, one in SITES.items() if site != "attention_out"}
    submodule = hook
    if found and found[2] in sites:
        submodule = f"{sites[found[2]]}_layer_{found[1]}"
    return {
        "layer": int(found[1]) if found else None,
        "lm_name": metadata.get("model_name"),
        "submodule_name": submodule,
    }


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="dictionary_learning",
        config=DictionaryLearningConfig,
        build=DictionaryLearning,
        summary="dictionary_learning, all classes (ae.pt, config.json)",
    )
