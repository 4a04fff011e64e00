"""Checkpoints: the state of a run in a directory that is whole or not there.

A checkpoint is written to a staging directory, synced, and renamed; its manifest lists every
file with size and sha256 and ends with a hash of itself. Only safetensors and JSON are used.
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
from saecore.files import STAGING, explained, sync, write_bytes, write_json, write_tensors
from saecore.state import join, separate

SCHEMA = 1
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
MAX_MANIFEST = 2**20
DOOMED = ".del-"
"""What is being deleted begins with this."""
REJECTED = "rejected-"
"""A checkpoint that a resume found damaged begins with this from then on."""


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
        state: nested dicts and lists of tensors and plain values; what lies under "optimizer"
            goes into a file of its own.
        keep: how many checkpoints stay.
        record: what else the manifest shall say, such as versions.

    Raises:
        CheckpointError: it cannot be written; earlier checkpoints are untouched.
    """
    final = directory / f"step-{step:08d}"
    staging = directory / f"{STAGING}{step:08d}-{os.getpid()}"
    with explained(final):
        if not directory.exists():
            directory.mkdir(parents=True)
            sync(directory.parent)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
    try:
        plain, tensors = separate(state)
        optimizer = {name: one for name, one in tensors.items() if name.startswith("optimizer/")}
        model = {name: one for name, one in tensors.items() if name not in optimizer}
        write_tensors(staging / "model.safetensors", model)
        write_tensors(staging / "optimizer.safetensors", optimizer)
        write_json(staging / "state.json", {"step": step, "state": plain})
        with explained(final):
            manifest = _manifest(staging, {**(record or {}), "step": step})
            write_bytes(staging / "manifest.json", manifest)
            if final.exists():
                _discard(final)
            os.rename(staging, final)
            sync(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for old in checkpoints(directory)[:-keep]:
        with explained(old, "deleted"):
            _discard(old)
    return final


def load(path: Path, experiment: str | None = None) -> dict[str, Any]:
    """Read the state of a checkpoint after checking every file against the manifest.

    Args:
        path: the checkpoint's directory.
        experiment: the hash of the experiment that it must belong to; default: any.

    Raises:
        CheckpointError: a file is missing, has changed, is not listed, or belongs elsewhere.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        manifest = _checked(path)
        if experiment is not None and manifest.get("experiment") != experiment:
            raise CheckpointError(f"{path}: belongs to another experiment")
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
    """The checkpoints of a run, oldest first; not checked."""
    found = (one for one in directory.glob("step-*") if one.name.removeprefix("step-").isdecimal())
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Completed steps, from a checkpoint's name."""
    return int(path.name.removeprefix("step-"))


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint so that it is no longer among those of the run."""
    aside = path.parent / f"{REJECTED}{path.name}"
    with explained(path, "renamed"):
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
    return aside


def clean(directory: Path) -> None:
    """Delete what a killed process left half-written or half-deleted in a run's directory."""
    for place in (directory, *(one for one in directory.glob("*") if one.is_dir())):
        for one in [*place.glob(f"{STAGING}*"), *place.glob(f"{DOOMED}*")]:
            if one.is_dir():
                shutil.rmtree(one, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    one.unlink()


def _discard(path: Path) -> None:
    """Delete a checkpoint, renamed first so that none is seen half-deleted."""
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
    """The manifest, after every file in the directory agrees with it."""
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
        raise CheckpointError(f"{path}: holds step {manifest['step']}; it has been renamed")
    surplus = sorted(set(_names(path)) - {*FILES, "manifest.json"})
    if surplus:
        raise CheckpointError(f"{path / surplus[0]}: not listed in the manifest")
    for name, entry in manifest["files"].items():
        one = path / name
        if one.stat().st_size != entry["size"] or _sha256(one) != entry["sha256"]:
            raise CheckpointError(f"{one}: has changed since it was written")
    return manifest


def _names(path: Path) -> Iterator[str]:
    """Names in a checkpoint, without those that file systems and desktops add."""
    return (one.name for one in path.iterdir() if not one.name.startswith("."))
