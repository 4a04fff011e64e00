"""Language-Model-SAEs (OpenMOSS, Llamascopium): SAEs and transcoders with ReLU, JumpReLU or TopK.

`{path}/config.json` has the settings. The weights beside it are sae_weights.safetensors,
sae_weights.pt (`{"sae": …}`), or the pruned or final ones in checkpoints/. They hold W_E
`[d, d_sae]`, b_E, W_D `[d_sae, d]`, b_D unless use_decoder_bias is false,
activation_function.log_jumprelu_threshold, and dataset_average_activation_norm.<hook> for each
hook, which is used only with norm_activation "dataset-wise".

Activations are scaled by s = sqrt(d) / that norm ("dataset-wise", with s_in and s_out for the two
hooks, folded into the weights here), by sqrt(d) / ‖x‖ ("token-wise") or not at all ("inference").
Nothing is subtracted from the input. Features are act(n · pre) / n, where n is the norm of the
stored decoder row if sparsity_include_decoder_norm and else 1: thresholds become θ / n, and TopK
ranks by n · pre and outputs pre. Two different hooks make a transcoder.

Settings that no architecture of saecore expresses are refused: use_glu_encoder, act_fn "batchtopk"
(its features depend on the batch), norm_activation "batch-wise", other values of sae_type, .dcp
files.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Format
from saecore.releases.tensor_reader import Tensors, required, same_size
from saecore.storage.repository import Repository

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.sae import SAE

FILES = tuple(
    f"{name}.{extension}"
    for name in ("sae_weights", "checkpoints/pruned", "checkpoints/final")
    for extension in ("safetensors", "pt")
)
"""Files of weights, in order of preference."""

KEYS = {"sae_type", "d_model", "expansion_factor", "act_fn", "hook_point_in", "hook_point_out"}
"""Keys that identify a config.json of this format."""

NORM = "dataset_average_activation_norm."
"""Prefix of the tensors that hold mean norms of activations; the hook follows."""

TINY = 2.0**-126
"""The smallest threshold with a logarithm in float32 arithmetic."""

THRESHOLD = "activation_function.log_jumprelu_threshold"
"""The tensor of log thresholds."""


class Llamascopium(Format):
    """Reads and writes files of OpenMOSS/Language-Model-SAEs."""

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` has such a config.json, and weights that are not R1 Distill's."""
        if not files.has(f"{path}/config.json") or not (weights := _weights(files, path)):
            return False
        if not files.json(f"{path}/config.json").keys() >= KEYS:
            return False
        return weights.endswith(".pt") or "W_E" in files.tensor_names(weights)

    def list(self, files: Repository) -> Sequence[str]:
        """List every folder with a config.json and weights, if the first is of this format."""
        end = "config.json"
        names = [name for name in files.files if posixpath.basename(name) == end]
        folders = [posixpath.dirname(name) for name in names]
        folders = [folder for folder in folders if _weights(files, folder)]
        return folders if folders and self.recognize(files, folders[0]) else []

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read configuration and weights."""
        table, where = files.json(f"{path}/config.json"), files.label(f"{path}/config.json")
        _refuse(table, where)
        file = _weights(files, path)
        if not file:
            raise ReleaseError(f"{files.label(path)}: no weights (looked for {', '.join(FILES)})")
        label = files.label(file)
        content = files.torch(file) if file.endswith(".pt") else files.safetensors(file)
        if file.endswith(".pt") and isinstance(content, dict):
            content = content.get("sae", content)
        tensors = Tensors(content, label)
        hook, out = (required(table, f"hook_point_{end}", str, where) for end in ("in", "out"))
        W_enc, W_dec = (tensors.take(name, 2).float() for name in ("W_E", "W_D"))
        d_in, d_sae = W_enc.shape
        d_model = required(table, "d_model", int, where)
        expected = int(d_model * required(table, "expansion_factor", float, where))
        same_size(label, "W_D", W_dec.shape[0], "W_E's d_sae", d_sae)
        same_size(label, "W_E", d_in, "d_model", d_model)
        same_size(label, "W_E", d_sae, "d_model · expansion_factor", expected)
        s_in = s_out = 1.0
        scaling, transcoder = table["norm_activation"], out != hook
        if scaling == "dataset-wise":
            s_in = _scale(tensors, hook, d_in)
            s_out = _scale(tensors, out, W_dec.shape[1]) if transcoder else s_in
        elif scaling == "token-wise" and transcoder:
            raise ReleaseError(f'{where}: norm_activation: "token-wise" transcoders are not read')
        tensors.drop(name for name in tensors.names if name.startswith(NORM))
        norms = W_dec.norm(dim=1) if table["sparsity_include_decoder_norm"] else None
        weights = {
            "W_enc": W_enc * s_in,
            "W_dec": W_dec / s_out,
            "b_enc": tensors.take("b_E", 1).float(),
            "b_dec": W_dec.new_zeros(W_dec.shape[1]),
        }
        if required(table, "use_decoder_bias", bool, where):
            weights["b_dec"] = tensors.take("b_D", 1).float() / s_out
        if table["act_fn"] == "jumprelu":
            theta = tensors.take(THRESHOLD, 1).float().exp()
            same_size(label, THRESHOLD, len(theta), "W_E's d_sae", d_sae)
            weights["threshold"] = theta if norms is None else theta / norms
        tensors.end(f"act_fn is {table['act_fn']!r}")
        metadata: dict[str, Any] = {
            "model_name": facts.model,
            "hook_name": hook,
            "hook_name_out": out if transcoder else None,
        }
        settings = _architecture(table, norms is not None, transcoder, where)
        if scaling == "token-wise":
            settings["normalize_activations"] = "constant_norm_rescale"
        if transcoder:
            settings["d_out"] = W_dec.shape[1]
        return Draft.of(settings.pop("architecture"), weights, metadata, **settings)

    def write(self, sae: SAE, directory: Path, sparsity: Tensor | None = None) -> None:
        """Write config.json and sae_weights.safetensors.

        Raises:
            ReleaseError: the library cannot express this SAE.
        """
        from saecore.releases.build import weights
        from saecore.releases.export_form import Expressible, centered, inference_form
        from saecore.storage.files import write_json, write_tensors

        sae = inference_form(sae)
        can = Expressible("llamascopium", sae)
        name = can.architecture("standard", "jumprelu", "topk", "ranked_topk", "transcoder",
                                "jumprelu_transcoder", "topk_transcoder")  # fmt: skip
        cfg, metadata = sae.cfg, sae.cfg.metadata
        can.check_processing("none", *(() if sae.separate_target else ("constant_norm_rescale",)))
        if cfg.d_out != cfg.d_in:
            raise can.refusal("d_out", cfg.d_out, f"d_out = d_in (here {cfg.d_in}) only")
        hooks = [metadata.get("hook_name")] * 2
        if sae.separate_target:
            hooks[1] = metadata.get("hook_name_out")
        if None in hooks or (hooks[0] != hooks[1]) != sae.separate_target:
            raise can.refusal("hook_name, hook_name_out", hooks, "one hook, or two for transcoders")
        ours = weights(centered(sae, False))
        names = {"W_E": "W_enc", "b_E": "b_enc", "W_D": "W_dec", "b_D": "b_dec"}
        tensors = {key: ours[parameter] for key, parameter in names.items()}
        act = {"standard": "relu", "transcoder": "relu"}.get(name, "topk")
        if "threshold" in ours:
            act, theta = "jumprelu", ours["threshold"].float()
            # Thresholds of 0 and below mean ReLU, and so does the smallest positive one.
            tensors[THRESHOLD] = theta.clamp(min=TINY).log()
        table = {
            "sae_type": "sae",
            "d_model": cfg.d_in,
            "expansion_factor": _factor(cfg.d_in, cfg.d_sae),
            "use_decoder_bias": True,
            "act_fn": act,
            "norm_activation": "inference" if cfg.normalize_activations == "none" else "token-wise",
            "sparsity_include_decoder_norm": name == "ranked_topk",
            "hook_point_in": hooks[0],
            "hook_point_out": hooks[1],
            "use_glu_encoder": False,
        }
        if act == "topk":
            config = cfg.architecture_config
            table["top_k"] = config.activation.config.k if sae.separate_target else config.k
        write_tensors(directory / "sae_weights.safetensors", tensors)
        write_json(directory / "config.json", table)


def _factor(d_in: int, d_sae: int) -> float:
    """d_sae / d_in, rounded so that int(d_in * factor) is d_sae."""
    factor = d_sae / d_in
    while int(d_in * factor) < d_sae:
        factor = math.nextafter(factor, math.inf)
    return factor


def _weights(files: Repository, path: str) -> str:
    """The file of the weights, "" if there is none."""
    return next((f"{path}/{name}" for name in FILES if files.has(f"{path}/{name}")), "")


def _refuse(table: dict[str, Any], where: str) -> None:
    """Refuse settings that no architecture of saecore expresses."""
    expected: dict[str, tuple[object, ...]] = {
        "sae_type": ("sae",),
        "use_glu_encoder": (False, None),
        "act_fn": ("relu", "jumprelu", "topk"),
        "norm_activation": ("dataset-wise", "token-wise", "inference"),
        "sparsity_include_decoder_norm": (True, False),
    }
    for key, values in expected.items():
        if table.get(key) not in values:
            names = " or ".join(repr(value) for value in values if value is not None)
            raise ReleaseError(f"{where}: {key}: expected {names}, got {table.get(key)!r}")


def _architecture(
    table: dict[str, Any], norms: bool, transcoder: bool, where: str
) -> dict[str, Any]:
    """The architecture and its settings."""
    act = table["act_fn"]
    if act == "topk":
        k = required(table, "top_k", int, where)
        if not transcoder:
            if norms:
                return {"architecture": "ranked_topk", "k": k}
            return {"architecture": "topk", "k": k, "rescale_acts_by_decoder_norm": False}
        if norms:
            raise ReleaseError(
                f"{where}: sparsity_include_decoder_norm: not read for transcoders with topk"
            )
        return {"architecture": "topk_transcoder", "activation": {"type": "topk", "k": k}}
    names = {"relu": ("standard", "transcoder"), "jumprelu": ("jumprelu", "jumprelu_transcoder")}
    return {"architecture": names[act][transcoder]}


def _scale(tensors: Tensors, hook: str, d: int) -> float:
    """The factor for the activations of a hook."""
    name = f"{NORM}{hook}"
    if name not in tensors.names:
        raise ReleaseError(f"{tensors.label}: {name}: missing; norm_activation is dataset-wise")
    norm = float(tensors.take(name, 0))
    if not 0 < norm < math.inf:
        raise ReleaseError(f"{tensors.label}: {name}: expected a positive number, got {norm}")
    return float(d**0.5 / norm)


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="llamascopium",
        build=Llamascopium,
        summary="OpenMOSS' Language-Model-SAEs (config.json, sae_weights.safetensors)",
    )
