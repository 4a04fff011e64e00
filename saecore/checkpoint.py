"""Checkpoints: the state of a run in a directory that is whole or not there.

A checkpoint is written to a staging directory, synced, and renamed; its manifest lists every
file with size and sha256 and ends with a hash of itself. Only safetensors and JSON are used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from saecore.errors import CheckpointError
from saecore.files import explained, write_bytes, write_json, write_tensors

SCHEMA = 1
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


def save(directory: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write `<directory>/step-NNNNNNNN` and delete all but the newest `keep` checkpoints.

    Args:
        directory: the run's `checkpoints`.
        step: completed steps.
        state: nested dicts and lists of tensors and plain values; what lies under "optimizer"
            goes into a file of its own.
        keep: how many checkpoints stay.

    Raises:
        CheckpointError: it cannot be written; earlier checkpoints are untouched.
    """
    final = directory / f"step-{step:08d}"
    staging = directory / f".tmp-{step:08d}-{os.getpid()}"
    with explained(final):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        tensors: dict[str, Tensor] = {}
        plain = _encode(state, "", tensors)
        optimizer = {name: one for name, one in tensors.items() if name.startswith("optimizer/")}
        model = {name: one for name, one in tensors.items() if name not in optimizer}
        write_tensors(staging / "model.safetensors", model)
        write_tensors(staging / "optimizer.safetensors", optimizer)
        write_json(staging / "state.json", {"step": step, "state": plain})
        write_bytes(staging / "manifest.json", _manifest(staging))
        with explained(final):
            _sync(staging)
            if final.exists():
                shutil.rmtree(final)
            os.rename(staging, final)
            _sync(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _prune(directory, keep)
    return final


def load(path: Path) -> dict[str, Any]:
    """Read the state of a checkpoint after checking every file against the manifest.

    Raises:
        CheckpointError: a file is missing, has changed, or is not listed.
    """
    from safetensors.torch import load as parse

    try:
        files = _checked(path)
        tensors = {**parse(files["model.safetensors"]), **parse(files["optimizer.safetensors"])}
        state: dict[str, Any] = _decode(json.loads(files["state.json"])["state"], tensors)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint: {error}") from error
    return state


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; not checked."""
    return sorted(directory.glob("step-*"))


def _manifest(directory: Path) -> bytes:
    files = {}
    for name in FILES:
        data = (directory / name).read_bytes()
        files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    body = {"schema": SCHEMA, "files": files}
    return _canonical({**body, "sha256": hashlib.sha256(_canonical(body)).hexdigest()})


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _checked(path: Path) -> dict[str, bytes]:
    raw = (path / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    if raw != _canonical(manifest) or manifest["sha256"] != (
        hashlib.sha256(_canonical(body)).hexdigest()
    ):
        raise CheckpointError(f"{path / 'manifest.json'}: has changed since it was written")
    if manifest["schema"] != SCHEMA or set(manifest["files"]) != set(FILES):
        raise CheckpointError(f"{path}: written by another version (schema {manifest['schema']})")
    files = {}
    for name, entry in manifest["files"].items():
        data = (path / name).read_bytes()
        if len(data) != entry["size"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise CheckpointError(f"{path / name}: has changed since it was written")
        files[name] = data
    return files


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Plain JSON; tensors are moved to `tensors` and named, keys that are ints are marked."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().clone()
        return {"tensor": path}
    if isinstance(value, Mapping):
        items = []
        for key, one in value.items():
            here = f"{path}/{key}" if path else str(key)
            items.append([key, _encode(one, here, tensors)])
        return {"items": items}
    if isinstance(value, list | tuple):
        return [_encode(one, f"{path}/{i}", tensors) for i, one in enumerate(value)]
    return value


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _decode(one, tensors) for key, one in value["items"]}
    if isinstance(value, list):
        return [_decode(one, tensors) for one in value]
    return value


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _prune(directory: Path, keep: int) -> None:
    """Delete old checkpoints, each renamed first so that none is seen half-deleted."""
    for old in checkpoints(directory)[:-keep]:
        doomed = directory / f".del-{old.name}-{os.getpid()}"
        with explained(old, "deleted"):
            os.rename(old, doomed)
            shutil.rmtree(doomed)
