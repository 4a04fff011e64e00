"""SAELens: `{path}/cfg.json`, `sae_weights.safetensors` and, if published, `sparsity.safetensors`.

Tensors are named like parameters: W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_out]`, and so on. Files
of version 6 have their provenance under `metadata`. Older files are one flat table of settings, or
the whole configuration of a run: old names are translated (hook_point, activation_fn_str,
normalize_activations = true), activation_fn "topk" means the architecture topk, provenance is moved
to `metadata`, and training settings are dropped.

`expected_average_only_in` needs a factor that is not in the files but in the catalogue. Without it
the SAE is refused, because its features would be wrong. (SAELens 6.54 warns and does not scale.)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Folders
from saecore.releases.tensor_reader import Tensors, check_width, required, setting
from saecore.storage.repository import Repository

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.sae import SAE

OLD_NAMES = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
"""New names of settings, by their names before version 6."""

PROVENANCE = (
    "model_name", "hook_name", "model_class_name", "hook_head_index",
    "model_from_pretrained_kwargs", "prepend_bos", "exclude_special_tokens", "neuronpedia_id",
    "context_size", "seqpos_slice", "dataset_path", "sae_lens_version",
    "sae_lens_training_version", "hook_name_out", "hook_head_index_out", "hf_hook_name",
    "hf_hook_name_out",
)  # fmt: skip
"""Settings that version 6 moved to metadata."""

NORMALIZATIONS = {True: "expected_average_only_in", False: "none", None: "none"}
"""Values of normalize_activations in old files that are not names."""


class SAELens(Folders):
    """Reads and writes files of SAELens and saecore."""

    names = ("cfg.json", "sae_weights.safetensors")

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read the three files."""
        cfg, where = files.json(f"{path}/cfg.json"), files.label(f"{path}/cfg.json")
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
                    f"{where}: normalize_activations: trained on activations that were scaled to "
                    'an average norm ("expected_average_only_in"), and the factor is neither in '
                    "the file nor in a catalogue; without it the features would be wrong"
                )
            cfg["normalize_activations"] = "none"
        if "transcoder" in str(cfg.get("architecture")) and cfg.get("apply_b_dec_to_input"):
            raise ReleaseError(
                f"{where}: apply_b_dec_to_input: a transcoder cannot subtract from its input the "
                "bias of another hook"
            )
        file = f"{path}/sae_weights.safetensors"
        tensors = files.safetensors(file)
        check_width(cfg, tensors, where, file)
        scaling = tensors.pop("scaling_factor", None)
        if scaling is not None and bool((scaling != 1).any()):
            raise ReleaseError(
                f"{files.label(file)}: scaling_factor: not 1 everywhere; features that were "
                "scaled after training are not supported"
            )
        return Draft(
            cfg=cfg, tensors=tensors, sparsity=_sparsity(files, path, cfg), input_scale=factor
        )

    def write(self, sae: SAE, directory: Path, sparsity: Tensor | None = None) -> None:
        """Write the three files like `SAE.save_model`, for architectures that SAELens 6 has.

        Raises:
            ReleaseError: SAELens 6 would not read the files, or would compute something else.
        """
        from saecore.releases.export_form import Expressible, inference_form
        from saecore.releases.saelens_files import READABLE, write_sae

        sae = inference_form(sae)
        can = Expressible("saelens", sae)
        can.architecture(*READABLE)
        normalization = sae.cfg.normalize_activations
        if sae.separate_target and normalization != "none":
            raise can.refusal("normalize_activations", normalization, "none for transcoders")
        write_sae(sae, directory, sparsity)


def _is_new(cfg: dict[str, Any]) -> bool:
    """Whether version 6 or later wrote it."""
    metadata = cfg.get("metadata")
    if not isinstance(metadata, dict):
        return False
    major = str(metadata.get("sae_lens_version", "6")).partition(".")[0]
    return not major.isdecimal() or int(major) >= 6


def _migrated(old: dict[str, Any], where: str) -> dict[str, Any]:
    """Convert a configuration from before version 6 to that of version 6."""
    old = {OLD_NAMES.get(key, key): value for key, value in old.items()}
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
    """log10 of firing frequencies `[d_sae]`, if published."""
    file = f"{path}/sparsity.safetensors"
    if not files.has(file):
        return None
    sparsity = Tensors(files.safetensors(file), files.label(file)).take("sparsity", 1)
    if len(sparsity) != cfg.get("d_sae"):
        raise ReleaseError(
            f"{files.label(file)}: sparsity: expected {cfg.get('d_sae')} numbers, "
            f"got {len(sparsity)}"
        )
    return sparsity


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="saelens",
        build=SAELens,
        summary="SAELens 6 and before, and saecore itself (cfg.json, sae_weights.safetensors)",
    )
