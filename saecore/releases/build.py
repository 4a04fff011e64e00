"""An `SAE` from a configuration and tensors of files: everything is checked, then loaded."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.config.structure import Problems, structure
from saecore.errors import ConfigError, PluginError, ReleaseError, nearest
from saecore.normalize import RUNTIME
from saecore.plugins import current_host
from saecore.sae import SAE
from saecore.sae_config import DTYPES, Metadata, SAEConfig, Shape

BASE = ("d_in", "d_sae", "d_out", "hooks", "dtype", "device", "apply_b_dec_to_input",
        "normalize_activations", "reshape_activations", "metadata", "architecture")  # fmt: skip
"""Keys that every cfg.json has."""


def build_sae(
    cfg: dict[str, Any],
    tensors: dict[str, Tensor],
    source: str,
    file: str,
    device: torch.device,
    dtype: str | None = None,
) -> SAE:
    """Build an SAE.

    Args:
        cfg: as in cfg.json.
        tensors: as in sae_weights.safetensors.
        source: where `cfg` is from, for messages.
        file: where `tensors` are from, for messages.
        device: where the weights go.
        dtype: precision; default: that of `cfg`.

    Raises:
        ReleaseError: they contradict each other, or cannot be understood wholly.
    """
    _check_keys(cfg, source)
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
    _check_sizes(tensors, cfg, own_sizes, file)
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
    _load(sae, tensors, file)
    return sae.eval()


def _check_keys(cfg: dict[str, Any], source: str) -> None:
    if not isinstance(cfg.get("architecture"), str):
        raise ReleaseError(
            f"{source}: architecture: missing; files from before SAELens 6 cannot be read yet"
        )
    for key in ("d_in", "d_sae", *(one for one in ("d_out", "hooks") if one in cfg)):
        if not isinstance(cfg.get(key), int) or isinstance(cfg[key], bool) or cfg[key] < 1:
            raise ReleaseError(
                f"{source}: {key}: expected a positive integer, got {cfg.get(key)!r}"
            )


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


def _check_sizes(
    tensors: dict[str, Tensor], cfg: dict[str, Any], own_sizes: set[int], file: str
) -> None:
    """Refuse tensors that cannot belong to `cfg` before anything is allocated for them."""
    sizes = {cfg["d_in"], cfg["d_sae"], cfg.get("d_out", cfg["d_in"]), *own_sizes}
    sizes.add(cfg["d_in"] // cfg.get("hooks", 1))  # of one hook
    for name, tensor in tensors.items():
        if not set(tensor.shape) <= sizes:
            raise ReleaseError(
                f"{file}: {name} is {list(tensor.shape)}, which does not fit d_in = {cfg['d_in']} "
                f"and d_sae = {cfg['d_sae']} of cfg.json"
            )


def _load(sae: SAE, tensors: dict[str, Tensor], file: str) -> None:
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
    if problem := sae.weights_problem():
        raise ReleaseError(f"{file}: {problem}")


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
