"""An `SAE` from a configuration and tensors of files: everything is checked, then loaded."""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.config.structure import Problems, structure
from saecore.errors import ConfigError, PluginError, ReleaseError, nearest
from saecore.normalize import RUNTIME
from saecore.plugins import Host, current_host
from saecore.sae import SAE
from saecore.sae_config import DTYPES, Metadata, SAEConfig, Shape

BASE = ("d_in", "d_sae", "d_out", "hooks", "dtype", "device", "apply_b_dec_to_input",
        "normalize_activations", "reshape_activations", "metadata", "architecture")  # fmt: skip
"""Keys that every cfg.json has."""

CHUNK = 2**20
"""Elements that are checked at a time."""


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
    name, variant = _named(cfg, host)
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
    settings |= cls.file_variants.get(variant, {})
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
        shape = Shape(cfg["d_in"], d_out, cfg["d_sae"], precision, device, hooks, allocate=False)
        sae = cls(method, shape)
    except ConfigError as error:
        raise ReleaseError(f"{source}: {error.problems[0]}") from None
    sae.cfg = attrs.evolve(
        sae.cfg,
        normalize_activations=cfg.get("normalize_activations", "none"),
        reshape_activations=cfg.get("reshape_activations", "none"),
        metadata=Metadata(cfg.get("metadata") or {}),
    )
    _check(sae.cfg, source, (*RUNTIME, *cls.own_normalizations))
    _load(sae, tensors, file, device)
    return sae.eval()


def _named(cfg: dict[str, Any], host: Host) -> tuple[str, str]:
    """The architecture and its variant; an activation in the name (jumprelu_transcoder) goes to
    `cfg`.
    """
    name: str = cfg["architecture"]
    if name in host.names("architecture"):
        return name, ""
    prefix, _, rest = name.partition("_")
    if rest in host.names("architecture"):
        if prefix in host.names("activation"):
            cfg.setdefault("activation", prefix)
            return rest, ""
        if prefix in getattr(host.component("architecture", rest).builder(), "file_variants", {}):
            return rest, prefix
    return name, ""


def _check_keys(cfg: dict[str, Any], source: str) -> None:
    if not isinstance(cfg.get("architecture"), str):
        raise ReleaseError(f"{source}: architecture: missing")
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
    one_hook = cfg["d_in"] // cfg.get("hooks", 1)
    sizes.add(one_hook)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ReleaseError(
                f"{file}: {name}: expected floating-point numbers, got {tensor.dtype}"
            )
        if not set(tensor.shape) <= sizes:
            raise ReleaseError(
                f"{file}: {name} is {list(tensor.shape)}, which does not fit d_in = {cfg['d_in']} "
                f"and d_sae = {cfg['d_sae']} of cfg.json"
            )
    found = {size for one in tensors.values() for size in one.shape}
    for key, size in (("d_in", one_hook), ("d_sae", cfg["d_sae"])):
        if not found & {cfg[key], size}:
            raise ReleaseError(f"{file}: no tensor has the size {key} = {cfg[key]} of cfg.json")


def _load(sae: SAE, tensors: dict[str, Tensor], file: str, device: torch.device) -> None:
    """Check the tensors and let them take the place of the parameters, copied only where needed."""
    expected = {name: list(one.shape) for name, one in weights(sae).items()}
    for name, shape in expected.items():
        if name not in tensors:
            raise ReleaseError(f"{file}: tensor {name} is missing")
        if list(tensors[name].shape) != shape:
            raise ReleaseError(
                f"{file}: {name}: expected shape {shape}, got {list(tensors[name].shape)}"
            )
        if not finite(tensors[name]):
            raise ReleaseError(f"{file}: {name} has values that are not finite")
    surplus = sorted(set(tensors) - set(expected))
    if surplus:
        raise ReleaseError(f"{file}: unexpected tensor {surplus[0]!r} for {sae.cfg.architecture}")
    own = {name: one for name, one in sae.state_dict().items() if name not in sae.training_state}
    tied = "encoder" in own and sae.encoder is sae.W_dec
    if tied and not torch.equal(tensors["W_enc"].t(), tensors["W_dec"]):
        sae.untie()
        tied = False
    taken: set[int] = set()
    state = {}
    for name, parameter in own.items():
        tensor = tensors["W_enc"].t() if name == "encoder" else tensors[_file_name(name)]
        tensor = tensor.to(device, parameter.dtype, memory_format=torch.contiguous_format)
        tensor = tensor.contiguous()  # the encoder is copied, all else stays where it was mapped
        # Weights that are folded must not change others of the same memory.
        state[name] = tensor.clone() if tensor.data_ptr() in taken else tensor
        taken.add(state[name].data_ptr())
    # Not strict: every tensor has been checked, and the state of training is not in files.
    sae.load_state_dict(state, strict=False, assign=True)
    if tied:
        sae.encoder = sae.W_dec
    if problem := sae.weights_problem():
        raise ReleaseError(f"{file}: {problem}")


def finite(tensor: Tensor) -> bool:
    """Whether all values are finite: a sum is not if one of them is not, and costs one reading."""
    if not tensor.is_floating_point():
        return True
    transposed = tensor.dim() == 2 and tensor.t().is_contiguous()
    wide = torch.promote_types(tensor.dtype, torch.float32)
    for part in (tensor.t() if transposed else tensor).reshape(-1).split(CHUNK):
        if not math.isfinite(part.sum(dtype=wide)) and not bool(torch.isfinite(part).all()):
            return False
    return True


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
