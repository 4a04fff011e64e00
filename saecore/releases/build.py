"""Build an `SAE` from a configuration and tensors of files; everything is checked first."""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.file_form import FileForm
from saecore.core.normalizer import RUNTIME
from saecore.core.sae import SAE
from saecore.core.sae_config import DTYPES, Metadata, SAEConfig, Shape
from saecore.errors import ConfigError, PluginError, ReleaseError, nearest
from saecore.plugins.component import Component
from saecore.plugins.host import current_host
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure
from saecore.releases.tensor_reader import check_width

BASE = ("d_in", "d_sae", "d_out", "hooks", "dtype", "device", "apply_b_dec_to_input",
        "normalize_activations", "reshape_activations", "metadata", "architecture")  # fmt: skip
"""Keys of cfg.json that do not depend on the architecture."""

CHUNK = 2**20
"""Elements checked at a time."""


def sae_from_files(
    cfg: dict[str, Any],
    tensors: dict[str, Tensor],
    cfg_label: str,
    file: str,
    device: torch.device,
    dtype: str | None = None,
) -> SAE:
    """Build an SAE.

    Args:
        cfg: as in cfg.json.
        tensors: as in sae_weights.safetensors.
        cfg_label: where `cfg` was read, for messages.
        file: where `tensors` were read, for messages.
        device: device of the weights.
        dtype: precision; default: that of `cfg`.

    Raises:
        ReleaseError: configuration and tensors contradict each other, or have an unknown part.
    """
    _check_keys(cfg, cfg_label)
    name, variant = _split_architecture(cfg)
    component, cls = _architecture(name, cfg_label)
    settings = _settings(cfg, component, cls, variant, cfg_label)
    try:
        config = structure(settings, component.config)
    except Problems as error:
        key, message = error.items[0]
        raise ReleaseError(f"{cfg_label}: {key}: {message}") from None
    form = cls.file_form
    extra_sizes = set(form.tensor_sizes(config, cfg["d_sae"]))
    check_width(cfg, tensors, cfg_label, file)
    _check_sizes(tensors, cfg, extra_sizes, file)
    precision = DTYPES.get(dtype or cfg.get("dtype", "float32"))
    if precision is None:
        raise ReleaseError(f"{cfg_label}: dtype: expected one of {', '.join(DTYPES)}, got "
                           f"{dtype or cfg.get('dtype')!r}")  # fmt: skip
    try:
        shape = Shape(
            cfg["d_in"],
            int(tensors["W_dec"].shape[1]) if "W_dec" in tensors else cfg["d_in"],
            cfg["d_sae"],
            dtype=precision,
            device=device,
            hooks=int(cfg.get("hooks", 1)),
            allocate=False,
        )
        sae = cls(config, shape)
    except ConfigError as error:
        raise ReleaseError(f"{cfg_label}: {error.problems[0]}") from None
    sae.cfg = attrs.evolve(
        sae.cfg,
        normalize_activations=cfg.get("normalize_activations", "none"),
        reshape_activations=cfg.get("reshape_activations", "none"),
        metadata=Metadata(cfg.get("metadata") or {}),
    )
    _check_processing(sae.cfg, cfg_label, (*RUNTIME, *form.normalizations))
    _load(sae, tensors, file, device)
    return sae.eval()


def _architecture(name: str, cfg_label: str) -> tuple[Component, type[SAE]]:
    """The plugin of an architecture and its SAE class."""
    try:
        component = current_host().component("architecture", name)
    except PluginError as error:
        raise ReleaseError(f"{cfg_label}: {error}") from error
    cls = component.builder()
    if not (isinstance(cls, type) and issubclass(cls, SAE)):
        raise ReleaseError(f"{cfg_label}: architecture {name!r} cannot be loaded: not an SAE class")
    return component, cls


def _settings(
    cfg: dict[str, Any], component: Component, cls: type[SAE], variant: str, cfg_label: str
) -> dict[str, Any]:
    """The architecture's settings in a cfg.json, with the defaults of the file format."""
    known = {field.name for field in attrs.fields(component.config)}
    extra = {key: value for key, value in cfg.items() if key not in BASE}
    form = cls.file_form
    unknown = [key for key in extra if key not in known | form.training_fields]
    if unknown:
        raise ReleaseError(
            f"{cfg_label}: unknown key {unknown[0]!r} for architecture {component.name}"
            f"{nearest(unknown[0], sorted(known))} (known: {', '.join(sorted(known))})"
        )
    saved = known if form.saved_fields is None else set(form.saved_fields)
    defaults = {key: value for key, value in form.defaults.items() if key in known}
    stored = {key: value for key, value in extra.items() if key in saved and value is not None}
    settings = {**defaults, **stored, **form.variants.get(variant, {})}
    if "apply_b_dec_to_input" in known:
        settings["apply_b_dec_to_input"] = cfg.get("apply_b_dec_to_input", True)
    return settings


def _split_architecture(cfg: dict[str, Any]) -> tuple[str, str]:
    """Split a name such as jumprelu_transcoder into the architecture and the prefix's meaning.

    Returns:
        The architecture, and the variant that the prefix names ("" for none). A prefix that is an
        activation goes to `cfg` instead.
    """
    host = current_host()
    name: str = cfg["architecture"]
    prefix, _, rest = name.partition("_")
    if name in host.names("architecture") or rest not in host.names("architecture"):
        return name, ""
    if prefix in host.names("activation"):
        cfg.setdefault("activation", prefix)
        return rest, ""
    cls = host.component("architecture", rest).builder()
    if prefix in getattr(cls, "file_form", FileForm()).variants:
        return rest, prefix
    return name, ""


def _check_keys(cfg: dict[str, Any], cfg_label: str) -> None:
    """Check the keys that every cfg.json must have."""
    if not isinstance(cfg.get("architecture"), str):
        raise ReleaseError(f"{cfg_label}: architecture: missing")
    for key in ("d_in", "d_sae", *(key for key in ("d_out", "hooks") if key in cfg)):
        if not isinstance(cfg.get(key), int) or isinstance(cfg[key], bool) or cfg[key] < 1:
            raise ReleaseError(
                f"{cfg_label}: {key}: expected a positive integer, got {cfg.get(key)!r}"
            )


def _check_processing(cfg: SAEConfig, cfg_label: str, runtime: tuple[str, ...]) -> None:
    """Refuse processing of activations that the forward pass would silently leave out."""
    if cfg.normalize_activations == "expected_average_only_in":
        raise ReleaseError(
            f"{cfg_label}: normalize_activations: the scale of {cfg.normalize_activations!r} is "
            'not in the file; save the SAE with the scale folded in, which gives "none"'
        )
    if cfg.normalize_activations not in ("none", *runtime):
        raise ReleaseError(
            f"{cfg_label}: normalize_activations: expected one of none, {', '.join(runtime)}, got "
            f"{cfg.normalize_activations!r}"
        )
    if cfg.reshape_activations not in ("none", "hook_z"):
        raise ReleaseError(
            f'{cfg_label}: reshape_activations: expected "none" or "hook_z", '
            f"got {cfg.reshape_activations!r}"
        )


def _check_sizes(
    tensors: dict[str, Tensor], cfg: dict[str, Any], extra_sizes: set[int], file: str
) -> None:
    """Refuse tensors that cannot belong to `cfg` before anything is allocated for them."""
    d_hook = cfg["d_in"] // cfg.get("hooks", 1)
    sizes = {cfg["d_in"], cfg["d_sae"], cfg.get("d_out", cfg["d_in"]), d_hook, *extra_sizes}
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
    file_sizes = {size for tensor in tensors.values() for size in tensor.shape}
    for key, size in (("d_in", d_hook), ("d_sae", cfg["d_sae"])):
        if not file_sizes & {cfg[key], size}:
            raise ReleaseError(f"{file}: no tensor has the size {key} = {cfg[key]} of cfg.json")


def _load(sae: SAE, tensors: dict[str, Tensor], file: str, device: torch.device) -> None:
    """Check the tensors and assign them to the parameters, without copies where possible."""
    expected = {name: list(tensor.shape) for name, tensor in weights(sae).items()}
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
    training_state = sae.file_form.training_state
    parameters = {
        name: tensor for name, tensor in sae.state_dict().items() if name not in training_state
    }
    tied = "encoder" in parameters and sae.encoder is sae.W_dec
    if tied and not torch.equal(tensors["W_enc"].t(), tensors["W_dec"]):
        sae.untie()
        tied = False
    pointers: set[int] = set()
    state = {}
    for name, parameter in parameters.items():
        tensor = tensors["W_enc"].t() if name == "encoder" else tensors[_file_name(name)]
        tensor = tensor.to(device, parameter.dtype, memory_format=torch.contiguous_format)
        tensor = tensor.contiguous()  # copies the encoder; the rest stays memory-mapped
        # Folding one tensor must not change another that shares its memory.
        state[name] = tensor.clone() if tensor.data_ptr() in pointers else tensor
        pointers.add(state[name].data_ptr())
    # Not strict: every tensor has been checked, and files have no training state.
    sae.load_state_dict(state, strict=False, assign=True)
    if tied:
        sae.encoder = sae.W_dec
    if problem := sae.weights_problem():
        raise ReleaseError(f"{file}: {problem}")


def finite(tensor: Tensor) -> bool:
    """Whether all values are finite; sums are checked first, because they read the data once."""
    if not tensor.is_floating_point():
        return True
    transposed = tensor.dim() == 2 and tensor.t().is_contiguous()
    wide = torch.promote_types(tensor.dtype, torch.float32)
    for chunk in (tensor.t() if transposed else tensor).reshape(-1).split(CHUNK):
        if not math.isfinite(chunk.sum(dtype=wide)) and not bool(torch.isfinite(chunk).all()):
            return False
    return True


def weights(sae: SAE) -> dict[str, Tensor]:
    """The tensors of an SAE under their names in files: `W_enc [d_in, d_sae]` for `encoder`."""
    return {
        _file_name(name): tensor.t() if name == "encoder" else tensor
        for name, tensor in sae.state_dict().items()
        if name not in sae.file_form.training_state
    }


def _file_name(name: str) -> str:
    """A parameter's name in files: the encoder is W_enc, the activation has no prefix."""
    return "W_enc" if name == "encoder" else name.removeprefix("activation.")
