"""Reading files from elsewhere: nothing is executed, nothing is allocated before it is checked."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.errors import ReleaseError

if TYPE_CHECKING:
    from torch import Tensor

MAX_TABLE = 2**20
"""Largest JSON or YAML file that is read, in bytes."""

MAX_TENSORS = 2**37
"""Largest content of one tensor file, uncompressed, in bytes."""

MAX_RATIO = 200
"""Largest ratio of an archive's content to its size; weights hardly compress."""


def json_table(path: Path, label: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ReleaseError: not JSON, not an object, or larger than `MAX_TABLE`.
    """
    try:
        return _table(json.loads(_text(path, label)), label)
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"{label}: not JSON: {error}") from None


def yaml_table(path: Path, label: str) -> dict[str, Any]:
    """Read a YAML mapping; tags that would build objects are refused.

    Raises:
        ReleaseError: not YAML, not a mapping, or larger than `MAX_TABLE`.
    """
    import yaml

    try:
        return _table(yaml.safe_load(_text(path, label)), label)
    except (yaml.YAMLError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise ReleaseError(f"{label}: not YAML: {line}") from None


def safetensors(path: Path, label: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped into memory rather than read.

    Raises:
        ReleaseError: not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise ReleaseError(f"{label}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ReleaseError(f"{label}: not a safetensors file: {error}") from None
    return tensors


def npz(path: Path, label: str) -> dict[str, Tensor]:
    """The arrays of an .npz file, without pickle.

    Raises:
        ReleaseError: not such a file, objects in it, or larger than it may be when unpacked.
    """
    import numpy
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(one.file_size for one in archive.infolist())
        if size > min(MAX_TENSORS, MAX_RATIO * max(path.stat().st_size, 1)):
            raise ReleaseError(
                f"{label}: {size:_} bytes when unpacked, of {path.stat().st_size:_}; refused"
            )
        with numpy.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (zipfile.BadZipFile, OSError, ValueError, TypeError, EOFError) as error:
        raise ReleaseError(f"{label}: not an .npz file of plain arrays: {error}") from None


def torch_file(path: Path, label: str) -> Any:
    """What torch.save wrote: tensors, containers, numbers and strings; nothing is executed.

    Raises:
        ReleaseError: not such a file, or one that holds other objects.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(one.file_size for one in archive.infolist())
            if size > min(MAX_TENSORS, MAX_RATIO * max(path.stat().st_size, 1)):
                raise ReleaseError(f"{label}: {size:_} bytes when unpacked; refused")
        return torch.load(path, map_location="cpu", weights_only=True)
    except ReleaseError:
        raise
    except Exception as error:  # the unpickler raises many kinds
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ReleaseError(
            f"{label}: cannot be read as a file of tensors (weights only): {line}"
        ) from None


def _text(path: Path, label: str) -> str:
    try:
        if path.stat().st_size > MAX_TABLE:
            raise ReleaseError(f"{label}: larger than {MAX_TABLE:_} bytes; not a settings file")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ReleaseError(f"{label}: not a text file") from None
    except OSError as error:
        raise ReleaseError(f"{label}: cannot be read: {error.strerror}") from error


def _table(value: Any, label: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ReleaseError(f"{label}: expected a table of settings, got {type(value).__name__}")
    return value
