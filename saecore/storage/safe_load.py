"""Read untrusted files: no code is executed, and sizes are checked before allocation."""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.errors import ReleaseError

if TYPE_CHECKING:
    from torch import Tensor

MAX_TABLE = 2**20
"""Largest JSON or YAML file, in bytes."""

MAX_TENSORS = 2**37
"""Largest uncompressed content of a tensor file, in bytes."""

MAX_RATIO = 200
"""Largest compression ratio of an archive; weights hardly compress."""

MAX_DEPTH = 8
"""Deepest nesting of containers in a weights file."""


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
    """Read a YAML mapping; tags that construct objects are refused.

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
    """Read the tensors of a safetensors file, memory-mapped.

    The library refuses a header whose shapes do not add up to the file size.

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


def tensor_names(path: Path, label: str) -> frozenset[str]:
    """Read the names of the tensors in a safetensors file, from its header.

    Raises:
        ReleaseError: not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return frozenset(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise ReleaseError(f"{label}: not a safetensors file: {error}") from None


def npz(path: Path, label: str) -> dict[str, Tensor]:
    """Read the arrays of an .npz file, without pickle.

    Raises:
        ReleaseError: not an .npz file, it contains objects, or an array's size differs from its
            header.
    """
    import numpy
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path, label)
            for member in members:
                _check_array(archive, member, label)
        with numpy.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except ReleaseError:
        raise
    except Exception as error:  # zip, zlib and numpy raise many types
        raise ReleaseError(f"{label}: not an .npz file of plain arrays: {_line(error)}") from None


def torch_file(path: Path, label: str) -> Any:
    """Read a file of torch.save: tensors, containers, numbers and strings, without code.

    Raises:
        ReleaseError: not such a file, it contains other objects, or a tensor is larger than its
            data.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _members(archive, path, label)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # refused below
            value = torch.load(path, map_location="cpu", weights_only=True)
    except ReleaseError:
        raise
    except Exception as error:  # the unpickler raises many types
        refuse_pickle(path, label)
        objects = re.search(r"GLOBAL (\S+)", str(error))
        if objects is not None:
            raise ReleaseError(
                f"{label}: holds Python objects ({objects[1]}) besides tensors, which only code "
                f"can load; saecore never runs code of a file. {RESAVE}"
            ) from None
        raise ReleaseError(f"{label}: not a file of tensors written by torch.save") from None
    for tensor in _tensors(value, label):
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise ReleaseError(f"{label}: has a tensor that is not an ordinary dense one")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ReleaseError(
                f"{label}: has a tensor of shape {list(tensor.shape)} with less data than that"
            )
    return value


RESAVE = "Save its tensors alone where it was made: torch.save(model.state_dict(), …)"
"""What to do about a file that only code can load."""


def refuse_pickle(path: Path, label: str) -> None:
    """Refuse a pickle that is not in an archive of torch.save.

    Raises:
        ReleaseError: it is one.
    """
    with path.open("rb") as file:
        start = file.read(2)
    if len(start) == 2 and start[0] == 0x80 and start[1] <= pickle.HIGHEST_PROTOCOL:
        raise ReleaseError(
            f"{label}: is a pickle, which can run any code; saecore never runs one. {RESAVE}"
        )


def _members(archive: zipfile.ZipFile, path: Path, label: str) -> list[zipfile.ZipInfo]:
    """The files of an archive, if its uncompressed size is allowed."""
    members = archive.infolist()
    size, packed = sum(member.file_size for member in members), path.stat().st_size
    if size > min(MAX_TENSORS, MAX_RATIO * max(packed, 1)):
        raise ReleaseError(f"{label}: {size:_} bytes uncompressed from {packed:_}; refused")
    return members


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, label: str) -> None:
    """Refuse an array whose header does not match its size, before numpy allocates it."""
    from numpy.lib import format as npy

    with archive.open(member) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        size = file.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject or size != member.file_size:
        raise ReleaseError(
            f"{label}: {member.filename}: {dtype} {list(shape)} does not fit its "
            f"{member.file_size:_} bytes"
        )


def _tensors(value: Any, label: str, depth: int = 0) -> Iterator[Tensor]:
    """All tensors in nested containers."""
    import torch

    if depth > MAX_DEPTH:
        raise ReleaseError(f"{label}: nested too deeply; not a weights file")
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple, set)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item, label, depth + 1)


def _line(error: Exception) -> str:
    """The first line of a message."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


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
