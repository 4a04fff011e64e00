"""Whether the files of a run are whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from saecore import checkpoint
from saecore.cache.manifest import MANIFEST
from saecore.errors import SaecoreError
from saecore.resume import RECORD, RESULT, read_record


@attrs.frozen
class Finding:
    """One thing that was looked at."""

    path: Path
    """The file or directory."""
    damage: str | None = None
    """What is wrong with it; None where it is whole."""
    note: str = ""
    """What was seen where it is whole."""


def verify(directory: Path) -> Iterator[Finding]:
    """Check every file of a run, finished or not: its record, metrics, checkpoints, SAE, results.

    Args:
        directory: the run's.

    Raises:
        SaecoreError: it is not a run's directory.
    """
    if not directory.is_dir():
        raise SaecoreError(f"{directory}: no such directory; expected that of a run")
    if (directory / MANIFEST).exists():
        yield from _cache(directory)
        return
    if not any((directory / name).exists() for name in (RECORD, "checkpoints", "sae")):
        raise SaecoreError(f"{directory}: not a run's directory (it has no {RECORD})")
    yield _looked_at(directory / RECORD, _record)
    lengths = [0]
    for path in checkpoint.checkpoints(directory / "checkpoints"):
        try:
            lengths.append(int(checkpoint.load(path)["run"]["metrics_length"]))
            yield Finding(path, note="every file as its manifest says")
        except SaecoreError as error:
            yield Finding(path, str(error).removeprefix(f"{path}: "))
        except (LookupError, TypeError, ValueError) as error:
            yield Finding(path, f"not the checkpoint of a run: {error}")
    yield _metrics(directory / "metrics.jsonl", max(lengths))
    if (directory / RESULT).exists():
        yield _looked_at(directory / RESULT, _result)
        yield _looked_at(directory / "sae", _sae)
    elif (directory / "sae" / "cfg.json").exists():
        yield _looked_at(directory / "sae", _sae)


def _cache(directory: Path) -> Iterator[Finding]:
    """Every shard of a cache of activations, its hash included."""
    from saecore.cache import manifest as cache
    from saecore.cache.verified import check_hash

    text = (directory / MANIFEST).read_text(encoding="utf-8")
    manifest = cache.read_manifest(text, str(directory / MANIFEST))
    for side in ("held_out", "train"):
        for number in range(manifest.shards(side)):
            file = directory / cache.shard_name(side, number)

            def whole(file: Path) -> str:
                shard = cache.read_shard(file.with_suffix(".json"))
                check_hash(file, shard)
                return f"{shard.bytes:_} bytes, as they were written"

            yield _looked_at(file, whole)


def _looked_at(path: Path, look: Callable[[Path], str]) -> Finding:
    try:
        return Finding(path, note=look(path))
    except SaecoreError as error:
        return Finding(path, str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return Finding(path, f"cannot be read: {error.strerror}")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return Finding(path, f"damaged: {type(error).__name__}: {error}")


def _record(file: Path) -> str:
    record = read_record(file.parent)
    return f"experiment {record['experiment'].get('name')!r}"


def _result(file: Path) -> str:
    result = json.loads(file.read_text(encoding="utf-8"))
    return f"{len(result['figures'])} evaluators, {result['training']['tokens']:_} tokens"


def _sae(path: Path) -> str:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from saecore.sae import SAE

    sae = SAE.load_from_disk(path)
    sparsity = path / "sparsity.safetensors"
    if sparsity.exists():
        try:
            shape = list(load_file(sparsity)["sparsity"].shape)
        except SafetensorError as error:
            raise ValueError(f"{sparsity.name}: {error}") from None
        if shape != [sae.cfg.d_sae]:
            raise ValueError(f"{sparsity.name}: expected [{sae.cfg.d_sae}], got {shape}")
    return f"{sae.cfg.architecture}, d_in {sae.cfg.d_in}, d_sae {sae.cfg.d_sae}"


def _metrics(file: Path, length: int) -> Finding:
    """metrics.jsonl: whole lines of JSON, steps in order, as long as checkpoints say."""
    try:
        data = file.read_bytes()
    except OSError as error:
        return Finding(file, f"cannot be read: {error.strerror}")
    if len(data) < length:
        return Finding(file, f"{len(data)} bytes; a checkpoint was written when it had {length}")
    before, lines = 0, data.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            step = json.loads(line)["step"]
            if not isinstance(step, int) or step < before or not line.endswith(b"\n"):
                raise ValueError(f"step {step!r} after step {before}")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            return Finding(file, f"line {number}: not a line of figures: {error}")
        before = step
    return Finding(file, note=f"{len(lines)} lines to step {before}")
