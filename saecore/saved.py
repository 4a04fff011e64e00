"""An SAE on disk, in the form that SAELens 6 writes and reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.config.explain import to_tables
from saecore.config.structure import Problems, structure
from saecore.errors import ConfigError, PluginError, ReleaseError, nearest
from saecore.files import write_json, write_tensors
from saecore.normalize import RUNTIME
from saecore.plugins import current_host
from saecore.sae import SAE
from saecore.sae_config import DTYPES, Metadata, SAEConfig, Shape

FORMAT = "6.54.12"
"""Version of SAELens whose file format this is; its loader wants to be told."""

BASE = ("d_in", "d_sae", "d_out", "hooks", "dtype", "device", "apply_b_dec_to_input",
        "normalize_activations", "reshape_activations", "metadata", "architecture")  # fmt: skip
"""Keys that every cfg.json has."""

IMPLIED = ("jumprelu_transcoder", "jumprelu_skip_transcoder")
"""Architectures of the format whose name says the activation; nothing else is stored of it."""

MAX_JSON = 2**20
"""Largest cfg.json that is read, in bytes."""


def write_sae(sae: SAE, path: Path, sparsity: Tensor | None = None) -> None:
    """Write the directory of an SAE; see `SAE.save_model`."""
    write_tensors(path / "sae_weights.safetensors", weights(sae))
    if sparsity is not None:
        write_tensors(path / "sparsity.safetensors", {"sparsity": sparsity.float()})
    write_json(path / "cfg.json", cfg_dict(sae), indent=None)


def weights(sae: SAE) -> dict[str, Tensor]:
    """The tensors of an SAE under the names of files: `W_enc [d_in, d_sae]` for `encoder`."""
    return {
        _file_name(name): one.t() if name == "encoder" else one
        for name, one in sae.state_dict().items()
        if name not in sae.training_state
    }


def _file_name(name: str) -> str:
    """A tensor of the activation belongs to the SAE; the encoder is stored as W_enc."""
    return "W_enc" if name == "encoder" else name.removeprefix("activation.")


def cfg_dict(sae: SAE) -> dict[str, Any]:
    """The cfg.json of an SAE."""
    from saecore import __version__

    cfg = sae.cfg
    fields = to_tables(cfg.method)
    centred = fields.pop("apply_b_dec_to_input", False)
    if sae.saved_fields is not None:
        fields = {key: one for key, one in fields.items() if key in sae.saved_fields}
    if sae.file_architecture in IMPLIED or fields.get("activation") == {"type": "relu"}:
        fields.pop("activation", None)  # the name says it
    if not cfg.inference:
        fields.update(cfg.metadata.get("training_architecture_details", {}))
    versions = {"sae_lens_version": FORMAT, "sae_lens_training_version": FORMAT,
                "saecore_version": __version__}  # fmt: skip
    return {
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": cfg.dtype,
        "device": cfg.device,
        "apply_b_dec_to_input": centred,
        "normalize_activations": cfg.normalize_activations,
        "reshape_activations": cfg.reshape_activations,
        "metadata": {**versions, **cfg.metadata},
        **fields,
        **({"d_out": cfg.d_out} if sae.separate_target else {}),
        **({"hooks": cfg.hooks} if sae.several_hooks else {}),
        "architecture": sae.file_architecture,
    }


def read_sae(path: Path, device: torch.device, dtype: str | None = None) -> SAE:
    """Read the directory of an SAE; see `SAE.load_from_disk`."""
    cfg = _read_cfg(path / "cfg.json")
    source = f"{path / 'cfg.json'}"
    host = current_host()
    name = cfg["architecture"]
    if name not in host.names("architecture"):
        # The activation may be part of the name: jumprelu_transcoder.
        activation, _, rest = name.partition("_")
        if activation in host.names("activation") and rest in host.names("architecture"):
            name = rest
            cfg.setdefault("activation", activation)
    try:
        component = host.component("architecture", name)
    except PluginError as error:
        raise ReleaseError(f"{source}: {error}") from error
    cls: type[SAE] = component.builder()  # type: ignore[assignment]
    if not (isinstance(cls, type) and issubclass(cls, SAE)):
        raise ReleaseError(f"{source}: architecture {name!r} cannot be loaded: not an SAE class")
    known = {one.name for one in attrs.fields(component.config)}
    own = {key: value for key, value in cfg.items() if key not in BASE}
    unknown = [key for key in own if key not in known | cls.training_fields]
    if unknown:
        raise ReleaseError(
            f"{source}: unknown key {unknown[0]!r} for architecture {name}"
            f"{nearest(unknown[0], sorted(known))} (known: {', '.join(sorted(known))})"
        )
    kept = known if cls.saved_fields is None else set(cls.saved_fields)
    settings = {key: value for key, value in own.items() if key in kept and value is not None}
    settings = {**{key: one for key, one in cls.file_defaults.items() if key in known}, **settings}
    if "apply_b_dec_to_input" in known:
        settings["apply_b_dec_to_input"] = cfg.get("apply_b_dec_to_input", True)
    try:
        method = structure(settings, component.config, host)
    except Problems as error:
        key, message = error.items[0]
        raise ReleaseError(f"{source}: {key}: {message}") from None
    own_sizes = cls.file_sizes(method, cfg["d_sae"])
    tensors = _read_weights(path / "sae_weights.safetensors", cfg, own_sizes)
    precision = DTYPES.get(dtype or cfg.get("dtype", "float32"))
    if precision is None:
        raise ReleaseError(f"{source}: dtype: expected one of {', '.join(DTYPES)}, got "
                           f"{dtype or cfg.get('dtype')!r}")  # fmt: skip
    d_out = int(tensors["W_dec"].shape[1]) if "W_dec" in tensors else cfg["d_in"]
    hooks = int(cfg.get("hooks", 1))
    try:
        sae = cls(method, Shape(cfg["d_in"], d_out, cfg["d_sae"], precision, device, hooks))
    except ConfigError as error:
        raise ReleaseError(f"{source}: {error.problems[0]}") from None
    sae.cfg = attrs.evolve(
        sae.cfg,
        normalize_activations=cfg.get("normalize_activations", "none"),
        reshape_activations=cfg.get("reshape_activations", "none"),
        metadata=Metadata(cfg.get("metadata") or {}),
    )
    _check(sae.cfg, source, (*RUNTIME, *cls.own_normalizations))
    _load(sae, tensors, path)
    return sae.eval()


def _read_cfg(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_JSON:
            raise ReleaseError(f"{file}: larger than {MAX_JSON:_} bytes; not an SAE's cfg.json")
        cfg = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReleaseError(
            f"{file}: no such file; expected a directory with cfg.json and sae_weights.safetensors"
        ) from None
    except OSError as error:
        raise ReleaseError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"{file}: not JSON: {error}") from None
    if not isinstance(cfg, dict):
        raise ReleaseError(f"{file}: expected a table of settings, got {type(cfg).__name__}")
    if not isinstance(cfg.get("architecture"), str):
        raise ReleaseError(
            f"{file}: architecture: missing; files from before SAELens 6 cannot be read yet"
        )
    for key in ("d_in", "d_sae", *(one for one in ("d_out", "hooks") if one in cfg)):
        if not isinstance(cfg.get(key), int) or isinstance(cfg[key], bool) or cfg[key] < 1:
            raise ReleaseError(f"{file}: {key}: expected a positive integer, got {cfg.get(key)!r}")
    return cfg


def _check(cfg: SAEConfig, source: str, runtime: tuple[str, ...]) -> None:
    """Refuse what the forward pass would silently leave out."""
    if cfg.normalize_activations == "expected_average_only_in":
        raise ReleaseError(
            f"{source}: normalize_activations: the scale of {cfg.normalize_activations!r} is not "
            'in the file; save the SAE with the scale folded, which gives "none"'
        )
    if cfg.normalize_activations not in ("none", *runtime):
        raise ReleaseError(
            f"{source}: normalize_activations: expected one of none, {', '.join(runtime)}, got "
            f"{cfg.normalize_activations!r}"
        )
    if cfg.reshape_activations not in ("none", "hook_z"):
        raise ReleaseError(
            f'{source}: reshape_activations: expected "none" or "hook_z", '
            f"got {cfg.reshape_activations!r}"
        )


def _read_weights(file: Path, cfg: dict[str, Any], own_sizes: set[int]) -> dict[str, Tensor]:
    """Read the tensors after their header agrees with the sizes in cfg.json."""
    from safetensors import SafetensorError, safe_open

    sizes = {cfg["d_in"], cfg["d_sae"], cfg.get("d_out", cfg["d_in"]), *own_sizes}
    sizes.add(cfg["d_in"] // cfg.get("hooks", 1))  # of one hook
    try:
        with safe_open(file, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 (not a dict)
                shape = handle.get_slice(name).get_shape()
                if not set(shape) <= sizes:
                    raise ReleaseError(
                        f"{file}: {name} is {shape}, which does not fit d_in = {cfg['d_in']} and "
                        f"d_sae = {cfg['d_sae']} of cfg.json"
                    )
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ReleaseError(f"{file}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise ReleaseError(f"{file}: not a safetensors file: {error}") from None


def _load(sae: SAE, tensors: dict[str, Tensor], path: Path) -> None:
    file = path / "sae_weights.safetensors"
    expected = {name: list(one.shape) for name, one in weights(sae).items()}
    for name, shape in expected.items():
        if name not in tensors:
            raise ReleaseError(f"{file}: tensor {name} is missing")
        if list(tensors[name].shape) != shape:
            raise ReleaseError(
                f"{file}: {name}: expected shape {shape}, got {list(tensors[name].shape)}"
            )
        if not bool(torch.isfinite(tensors[name]).all()):
            raise ReleaseError(f"{file}: {name} has values that are not finite")
    surplus = sorted(set(tensors) - set(expected))
    if surplus:
        raise ReleaseError(f"{file}: unexpected tensor {surplus[0]!r} for {sae.cfg.architecture}")
    state = {
        name: tensors["W_enc"].t() if name == "encoder" else tensors[_file_name(name)]
        for name in sae.state_dict()
        if name not in sae.training_state
    }
    if "encoder" in state and not torch.equal(state["encoder"], state["W_dec"]):
        sae.untie()
    # Not strict: every tensor has been checked, and the state of training is not in files.
    sae.load_state_dict(state, strict=False)
