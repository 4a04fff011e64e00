"""Checkpoints: a run's state in a directory that is either complete or absent.

A checkpoint is written to a staging directory, synced and renamed. Its manifest lists the size
and sha256 of every file and ends with a hash of itself. Only safetensors and JSON are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from saecore.errors import CheckpointError
from saecore.storage.files import (
    STAGING,
    checkpoint_errors,
    storage_errors,
    sync,
    write_bytes,
    write_json,
    write_tensors,
)
from saecore.storage.state_dict import join, separate

SCHEMA = 1
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
MAX_MANIFEST = 2**20
DOOMED = ".del-"
"""Prefix of checkpoints being deleted."""
REJECTED = "rejected-"
"""Prefix given to checkpoints that a resume found damaged."""


@checkpoint_errors()
def save(
    directory: Path,
    step: int,
    state: Mapping[str, Any],
    keep: int,
    record: Mapping[str, Any] | None = None,
) -> Path:
    """Write `<directory>/step-NNNNNNNN` and delete all but the newest `keep` checkpoints.

    Args:
        directory: the run's `checkpoints`.
        step: completed steps.
        state: nested dicts and lists of tensors and plain values; everything under "optimizer"
            goes into a separate file.
        keep: how many checkpoints to keep.
        record: additional entries of the manifest, such as versions.

    Raises:
        CheckpointError: it cannot be written; earlier checkpoints are untouched.
    """
    final = directory / f"step-{step:08d}"
    staging = directory / f"{STAGING}{step:08d}-{os.getpid()}"
    with storage_errors(final):
        if not directory.exists():
            directory.mkdir(parents=True)
            sync(directory.parent)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
    try:
        plain, tensors = separate(state)
        optimizer = {
            name: tensor for name, tensor in tensors.items() if name.startswith("optimizer/")
        }
        model = {name: tensor for name, tensor in tensors.items() if name not in optimizer}
        write_tensors(staging / "model.safetensors", model)
        write_tensors(staging / "optimizer.safetensors", optimizer)
        write_json(staging / "state.json", {"step": step, "state": plain})
        with storage_errors(final):
            manifest = _manifest(staging, {**(record or {}), "step": step})
            write_bytes(staging / "manifest.json", manifest)
            if final.exists():
                _discard(final)
            os.rename(staging, final)
            sync(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for old in checkpoints(directory)[:-keep]:
        with storage_errors(old, "deleted"):
            _discard(old)
    return final


def load(path: Path, experiment: str | None = None) -> dict[str, Any]:
    """Check every file of a checkpoint against its manifest and read the state.

    Args:
        path: the checkpoint's directory.
        experiment: hash of the experiment that it must belong to; default: any.

    Raises:
        CheckpointError: a file is missing, has changed, is not listed, or belongs elsewhere.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        manifest = _checked(path)
        if experiment is not None and manifest.get("experiment") != experiment:
            raise CheckpointError(f"{path}: belongs to a different experiment")
        tensors = {
            **load_file(path / "model.safetensors"),
            **load_file(path / "optimizer.safetensors"),
        }
        plain = json.loads((path / "state.json").read_bytes())["state"]
        state: dict[str, Any] = join(plain, tensors)
    except OSError as error:
        name = error.filename or path
        raise CheckpointError(f"{name}: cannot be read: {error.strerror}") from error
    except (
        ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError
    ) as error:  # fmt: skip
        raise CheckpointError(f"{path}: not a checkpoint: {error}") from error
    return state


def checkpoints(directory: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first, without checking them."""
    paths = directory.glob("step-*")
    return sorted((p for p in paths if p.name.removeprefix("step-").isdecimal()), key=step_of)


def step_of(path: Path) -> int:
    """Return the completed steps, from a checkpoint's name."""
    return int(path.name.removeprefix("step-"))


@checkpoint_errors()
def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it no longer counts as one of the run's."""
    aside = path.parent / f"{REJECTED}{path.name}"
    with storage_errors(path, "renamed"):
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
    return aside


def clean(directory: Path) -> None:
    """Delete what a killed process left half-written or half-deleted in a run's directory."""
    for folder in (directory, *(path for path in directory.glob("*") if path.is_dir())):
        for leftover in [*folder.glob(f"{STAGING}*"), *folder.glob(f"{DOOMED}*")]:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    leftover.unlink()


def _discard(path: Path) -> None:
    """Rename a checkpoint, then delete it, so that none is ever seen half-deleted."""
    doomed = path.parent / f"{DOOMED}{path.name}-{os.getpid()}"
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def _manifest(directory: Path, record: Mapping[str, Any]) -> bytes:
    files = {
        name: {"size": (directory / name).stat().st_size, "sha256": _sha256(directory / name)}
        for name in FILES
    }
    body = {**record, "schema": SCHEMA, "files": files}
    return _canonical({**body, "sha256": hashlib.sha256(_canonical(body)).hexdigest()})


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _checked(path: Path) -> dict[str, Any]:
    """Read the manifest and check every file in the directory against it."""
    file = path / "manifest.json"
    if file.stat().st_size > MAX_MANIFEST:
        raise CheckpointError(f"{file}: larger than {MAX_MANIFEST:_} bytes; not a manifest")
    raw = file.read_bytes()
    manifest: dict[str, Any] = json.loads(raw)
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    if raw != _canonical(manifest) or manifest["sha256"] != (
        hashlib.sha256(_canonical(body)).hexdigest()
    ):
        raise CheckpointError(f"{file}: has changed since it was written")
    if manifest["schema"] != SCHEMA or set(manifest["files"]) != set(FILES):
        raise CheckpointError(f"{path}: written by another version (schema {manifest['schema']})")
    if path.name != f"step-{manifest['step']:08d}":
        raise CheckpointError(f"{path}: holds step {manifest['step']}; the directory was renamed")
    surplus = sorted(set(_names(path)) - {*FILES, "manifest.json"})
    if surplus:
        raise CheckpointError(f"{path / surplus[0]}: not listed in the manifest")
    for name, entry in manifest["files"].items():
        file = path / name
        if file.stat().st_size != entry["size"] or _sha256(file) != entry["sha256"]:
            raise CheckpointError(f"{file}: has changed since it was written")
    return manifest


def _names(path: Path) -> Iterator[str]:
    """List the names in a checkpoint, without hidden files of file systems and desktops."""
    return (file.name for file in path.iterdir() if not file.name.startswith("."))
