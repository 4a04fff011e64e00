"""Checked access to tensors and settings of files of unknown origin."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from saecore.errors import ReleaseError, nearest

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

WEIGHTS = ("W_enc", "W_dec")
"""Encoder and decoder in files of SAELens."""

NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false",
         dict: "a table"}  # fmt: skip
"""Types of settings, for messages."""


class Tensors:
    """The tensors of one file, taken by name; a tensor that is never taken is an error.

    Args:
        values: the content of the file.
        label: the file, for messages.

    Raises:
        ReleaseError: not a table of tensors.
    """

    def __init__(self, values: Any, label: str) -> None:
        import torch

        if not isinstance(values, Mapping):
            raise ReleaseError(
                f"{label}: expected tensors by name, got {type(values).__name__}; not this format"
            )
        self.label = label
        self._left = {str(key): value for key, value in values.items()}
        for name, value in self._left.items():
            if not isinstance(value, torch.Tensor):
                raise ReleaseError(
                    f"{label}: {name}: expected a tensor, got {type(value).__name__}; not this "
                    "format"
                )
            if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
                raise ReleaseError(f"{label}: {name}: not an ordinary dense tensor")

    @property
    def names(self) -> frozenset[str]:
        """Names of the tensors that have not been taken yet."""
        return frozenset(self._left)

    def take(self, name: str, dims: int) -> Tensor:
        """Take a floating-point tensor.

        Args:
            name: its name in the file.
            dims: the number of dimensions it must have.

        Raises:
            ReleaseError: it is missing, not floating-point, or has another number of dimensions.
        """
        if name not in self._left:
            known = ", ".join(sorted(self._left)) or "nothing"
            raise ReleaseError(
                f"{self.label}: tensor {name} is missing{nearest(name, sorted(self._left))} "
                f"(left in the file: {known})"
            )
        tensor: Tensor = self._left.pop(name).detach()
        if not tensor.is_floating_point():
            raise ReleaseError(
                f"{self.label}: {name}: expected floating-point numbers, got {tensor.dtype}"
            )
        if tensor.dim() != dims:
            raise ReleaseError(
                f"{self.label}: {name}: expected {dims} dimensions, got shape {list(tensor.shape)}"
            )
        return tensor

    def number(self, name: str) -> float:
        """Take a tensor of one number, of any dtype.

        Raises:
            ReleaseError: it is missing, not finite, or not one number.
        """
        if name not in self._left or self._left[name].numel() != 1:
            raise ReleaseError(f"{self.label}: {name}: expected a tensor of one number")
        value = self._left.pop(name).item()
        if isinstance(value, complex) or not math.isfinite(value):
            raise ReleaseError(f"{self.label}: {name}: expected a finite number, got {value}")
        return float(value)

    def drop(self, names: Iterable[str]) -> None:
        """Discard tensors that a trained SAE does not need."""
        for name in names:
            self._left.pop(name, None)

    def end(self, reason: str = "") -> None:
        """Check that every tensor has been taken.

        Args:
            reason: explanation for the message.

        Raises:
            ReleaseError: a tensor is left over.
        """
        if self._left:
            name = min(self._left)
            raise ReleaseError(
                f"{self.label}: unexpected tensor {name} {list(self._left[name].shape)}"
                f"{f'; {reason}' if reason else ''}"
            )


def same_size(label: str, name: str, got: int, key: str, expected: int | None) -> None:
    """Check a tensor's size against a setting.

    Args:
        label: the file, for messages.
        name: the tensor.
        got: its size.
        key: the setting.
        expected: the setting's value; None skips the check.

    Raises:
        ReleaseError: they differ.
    """
    if expected is not None and got != expected:
        raise ReleaseError(f"{label}: {name}: got {got}, expected {key} = {expected}")


def check_width(
    cfg: Mapping[str, Any], tensors: Mapping[str, Any], cfg_label: str, file: str
) -> None:
    """Blame the configuration for a size in which encoder and decoder agree with each other.

    Args:
        cfg: as in cfg.json.
        tensors: the weights; W_enc `[d_in, d_sae]` and W_dec `[d_sae, d_out]` are compared.
        cfg_label: where `cfg` was read, for messages.
        file: where the tensors were read.

    Raises:
        ReleaseError: d_in or d_sae is not that of the tensors.
    """
    encoder, decoder = (list(getattr(tensors.get(name), "shape", ())) for name in WEIGHTS)
    if len(encoder) != 2 or len(decoder) != 2 or encoder[1] != decoder[0]:
        return
    sizes = {"d_in": encoder[0], "d_sae": encoder[1]}
    wrong = [key for key, size in sizes.items() if cfg.get(key) != size]
    several = "hooks" in cfg or decoder[1] != encoder[0]
    if len(wrong) != 1 or (wrong == ["d_in"] and several):
        return
    key, name = wrong[0], "the file" if file == cfg_label else posixpath.basename(file)
    raise ReleaseError(f"{cfg_label}: {key} = {cfg.get(key)}, but {name} has {sizes[key]}")


def setting(table: Mapping[str, Any], key: str, kind: type[T], label: str) -> T | None:
    """Read a value of a table; None if it is missing or null.

    Args:
        table: the settings.
        key: the value's name; `a.b` means b in the table a.
        kind: `int`, `float` (accepts integers), `str`, `bool` or `dict`.
        label: the file, for messages.

    Raises:
        ReleaseError: it has another type.
    """
    value: Any = table
    for part in key.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise ReleaseError(f"{label}: {key}: expected a table above it, got {value!r}")
        value = value.get(part)
    if value is None:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ReleaseError(f"{label}: {key}: expected {NAMES[kind]}, got {value!r:.80}")
    return value


def required(table: Mapping[str, Any], key: str, kind: type[T], label: str) -> T:
    """Read a required value of a table; arguments as for `setting`.

    Raises:
        ReleaseError: it is missing or has another type.
    """
    value = setting(table, key, kind, label)
    if value is None:
        raise ReleaseError(f"{label}: {key}: missing; expected {NAMES[kind]}")
    return value
