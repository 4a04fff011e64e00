"""Damaged copies of release files, which a reader must refuse unless the damage is harmless."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Mutation = tuple[str, bytes | None]
"""The damage to a file and its new content; None if it was removed."""

NUMBERS: tuple[Any, ...] = (None, 0, -1, 10**9, "no such")
"""Replacements for a number."""

OTHERS: tuple[Any, ...] = (None, 10**9, [], {"a": 1})
"""Replacements for other settings; two of them, in turn."""


class Code:
    """Creates a directory when it is unpickled unsafely.

    Args:
        place: the directory, which shows that code was run.
    """

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.place),)


def mutations(file: Path, place: Path) -> Iterator[Mutation]:
    """Every mutation of one file.

    Args:
        file: a file of JSON, YAML, safetensors, npz, torch or any other format.
        place: the directory that code in a pickle would create.
    """
    data = file.read_bytes()
    yield "removed", None
    yield "emptied", b""
    yield "cut in half", data[: len(data) // 2]
    yield "of other content", b"\x00 not this \xff" * 20
    yield "with its middle changed", _scrambled(data)
    kind = file.suffix.lstrip(".")
    if kind in ("json", "yaml", "yml"):
        yield from _tables(data, kind)
    elif kind == "safetensors":
        from safetensors.torch import load, save

        yield from _weights(load(data), save)
    elif kind == "npz":
        yield from _weights(_arrays(data), _npz)
    elif kind in ("pt", "pth", "bin"):
        yield "with code in it", pickle.dumps({"W_enc": Code(place)})
        yield "with code in torch's way", _torch({"W_enc": Code(place)})
        yield "of one number", _torch(1.0)
        value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if isinstance(value, Mapping):
            tensors = {key: entry for key, entry in value.items() if isinstance(entry, Tensor)}
            others = {key: entry for key, entry in value.items() if key not in tensors}
            yield from _weights(tensors, lambda new: _torch({**others, **new}))


def _scrambled(data: bytes) -> bytes:
    middle = len(data) // 2
    return (
        data[:middle] + bytes(255 - byte for byte in data[middle : middle + 9]) + data[middle + 9 :]
    )


def _tables(data: bytes, kind: str) -> Iterator[Mutation]:
    """Each setting removed, and with strange values."""
    import yaml

    table = yaml.safe_load(data)  # JSON is YAML
    dump = json.dumps if kind == "json" else yaml.safe_dump
    if kind != "json":
        yield "with a tag for an object", b"a: !!python/object/apply:os.getcwd []\n"
    yield "of a list", dump([]).encode()
    for number, path in enumerate(_paths(table)):
        *above, last = path
        old = table
        for key in path:
            old = old[key]
        strange = NUMBERS if type(old) in (int, float) else (*OTHERS, *OTHERS)[number % 4 :][:2]
        for value in ("removed", *strange):
            new = json.loads(json.dumps(table))
            inner = new
            for key in above:
                inner = inner[key]
            if value == "removed":
                del inner[last]
            else:
                inner[last] = value
            yield f"with {'.'.join(path)} = {value!r}", dump(new).encode()


def _paths(table: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(table, dict):
        for key, value in table.items():
            yield (key,)
            yield from ((key, *path) for path in _paths(value))


def _weights(tensors: Mapping[str, Tensor], save: Callable[[Any], bytes]) -> Iterator[Mutation]:
    """Remove each tensor, change its shape or type, make it non-finite; add another tensor."""
    yield "without tensors", save({})
    for name, tensor in tensors.items():
        others = {key: other.clone() for key, other in tensors.items() if key != name}
        yield f"without {name}", save(others)
        changed = {
            "one row short": tensor[1:].clone() if tensor.dim() else None,
            "with a dimension more": tensor[None].clone(),
            "flat": tensor.flatten().clone() if tensor.dim() > 1 else None,
            "transposed": tensor.t().clone() if tensor.dim() == 2 else None,
            "empty": tensor.new_empty(0),
            "of integers": torch.zeros(tensor.shape, dtype=torch.int64),
            "not a number": torch.full(tensor.shape, torch.nan),
        }
        for what, new in changed.items():
            if new is not None:
                yield f"with {name} {what}", save({**others, name: new.contiguous()})
    surplus = {**{key: other.clone() for key, other in tensors.items()}, "surprise": torch.ones(3)}
    yield "with an extra tensor", save(surplus)


def _torch(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _arrays(data: bytes) -> dict[str, Tensor]:
    import numpy

    with numpy.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _npz(tensors: Mapping[str, Tensor]) -> bytes:
    import numpy

    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    numpy.savez(buffer, **arrays)
    return buffer.getvalue()
