"""SAELens: `{path}/cfg.json`, `sae_weights.safetensors` and, if published, `sparsity.safetensors`.

Tensors have our names: W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_out]`, and so on. Files of version 6
hold what they need, provenance under `metadata`. Files from before are one flat table of settings,
or the whole configuration of a run: old names are translated (hook_point, activation_fn_str,
normalize_activations = true), activation_fn "topk" makes the architecture topk, provenance is
gathered in `metadata`, and the rest means nothing to an SAE that is trained.

`expected_average_only_in` needs the factor of the catalogue, for it is not in the files: without
one the SAE is refused, because its features would be wrong. (SAELens 6.54 warns and does not
scale.)
"""

from __future__ import annotations

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
from saecore.releases.tensors import Tensors, required, setting

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.sae import SAE

OLD_NAMES = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
"""Names of settings before version 6, and what they became."""

PROVENANCE = (
    "model_name", "hook_name", "model_class_name", "hook_head_index",
    "model_from_pretrained_kwargs", "prepend_bos", "exclude_special_tokens", "neuronpedia_id",
    "context_size", "seqpos_slice", "dataset_path", "sae_lens_version",
    "sae_lens_training_version", "hook_name_out", "hook_head_index_out", "hf_hook_name",
    "hf_hook_name_out",
)  # fmt: skip
"""Settings before version 6 that are metadata since."""

NORMALIZATIONS = {True: "expected_average_only_in", False: "none", None: "none"}
"""What normalize_activations may be in old files, beside names."""


@attrs.frozen
class SAELensConfig:
    """This format has no settings."""


class SAELens(Folders):
    """Reads what SAELens and saecore write."""

    names = ("cfg.json", "sae_weights.safetensors")

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read the three files."""
        cfg, where = files.json(f"{path}/cfg.json"), f"{files.name}/{path}/cfg.json"
        if not _is_new(cfg):
            cfg = _migrated(cfg, where)
        if not cfg.get("finetuning_scaling_factor"):
            cfg.pop("finetuning_scaling_factor", None)
        cfg["dtype"] = str(cfg.get("dtype") or "float32").removeprefix("torch.")
        factor = None
        if cfg.get("normalize_activations") == "expected_average_only_in":
            factor = facts.norm_scaling_factor
            if factor is None:
                raise ReleaseError(
                    f"{where}: normalize_activations: it was trained on activations scaled to an "
                    'average norm ("expected_average_only_in"), and the factor is neither in the '
                    "file nor in a catalogue; without it its features would be wrong"
                )
            cfg["normalize_activations"] = "none"
        if "transcoder" in str(cfg.get("architecture")) and cfg.get("apply_b_dec_to_input"):
            raise ReleaseError(
                f"{where}: apply_b_dec_to_input: a transcoder cannot subtract from its input the "
                "bias of another hook"
            )
        file = f"{path}/sae_weights.safetensors"
        tensors = files.safetensors(file)
        scaling = tensors.pop("scaling_factor", None)
        if scaling is not None and bool((scaling != 1).any()):
            raise ReleaseError(
                f"{files.name}/{file}: scaling_factor: not 1 everywhere; features that were scaled "
                "after training cannot be expressed"
            )
        return Draft(cfg, tensors, _sparsity(files, path, cfg), input_scale=factor)

    def write(self, sae: SAE, directory: Path, sparsity: Tensor | None = None) -> None:
        """Write the three files, as `SAE.save_model`, but only what SAELens 6 has a class for.

        Raises:
            ReleaseError: SAELens 6 computes something else, or nothing, from such files.
        """
        from saecore.releases.writing import Expressible, published
        from saecore.saved import READABLE, write_sae

        sae = published(sae)
        can = Expressible("saelens", sae)
        can.architecture(*READABLE)
        normalization = sae.cfg.normalize_activations
        if sae.separate_target and normalization != "none":
            raise can.refused("normalize_activations", normalization, "none for transcoders")
        write_sae(sae, directory, sparsity)


def _is_new(cfg: dict[str, Any]) -> bool:
    """Whether version 6 or a later one wrote it."""
    metadata = cfg.get("metadata")
    if not isinstance(metadata, dict):
        return False
    major = str(metadata.get("sae_lens_version", "6")).partition(".")[0]
    return not major.isdecimal() or int(major) >= 6


def _migrated(old: dict[str, Any], where: str) -> dict[str, Any]:
    """A configuration from before version 6 as version 6 writes it."""
    old = {OLD_NAMES.get(key, key): one for key, one in old.items()}
    cfg: dict[str, Any] = {
        "architecture": setting(old, "architecture", str, where) or "standard",
        "d_in": required(old, "d_in", int, where),
        "d_sae": required(old, "d_sae", int, where),
        "dtype": old.get("dtype"),
        "device": "cpu",
        "apply_b_dec_to_input": setting(old, "apply_b_dec_to_input", bool, where) is not False,
        **({"d_out": old["d_out"]} if "d_out" in old else {}),
    }
    activation = setting(old, "activation_fn", str, where) or "relu"
    if activation == "topk" and cfg["architecture"] in ("standard", "topk"):
        cfg["architecture"] = "topk"
        cfg["k"] = required(old, "activation_fn_kwargs.k", int, where)
    elif activation != "relu":
        raise ReleaseError(
            f"{where}: activation_fn: {activation!r} is not read with architecture "
            f"{cfg['architecture']!r} (only relu, and topk with standard or topk)"
        )
    normalization = old.get("normalize_activations")
    if normalization is None or isinstance(normalization, bool):
        normalization = NORMALIZATIONS[normalization]
    hook = setting(old, "hook_name", str, where) or ""
    metadata = {"prepend_bos": True, **{key: old[key] for key in PROVENANCE if key in old}}
    cfg["normalize_activations"] = normalization
    flattened = "hook_z" if "hook_z" in hook else "none"
    cfg["reshape_activations"] = setting(old, "reshape_activations", str, where) or flattened
    return {**cfg, "metadata": metadata}


def _sparsity(files: Repository, path: str, cfg: dict[str, Any]) -> Tensor | None:
    """log10 of firing frequencies `[d_sae]`, where they were published."""
    file = f"{path}/sparsity.safetensors"
    if not files.has(file):
        return None
    found = Tensors(files.safetensors(file), f"{files.name}/{file}").take("sparsity", 1)
    if len(found) != cfg.get("d_sae"):
        raise ReleaseError(
            f"{files.name}/{file}: sparsity: expected {cfg.get('d_sae')} numbers, got {len(found)}"
        )
    return found


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="saelens",
        config=SAELensConfig,
        build=SAELens,
        summary="SAELens 6 and before, and saecore itself (cfg.json, sae_weights.safetensors)",
    )
