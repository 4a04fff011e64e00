"""Verify the files of a run or an activation cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from saecore.activations.cache.manifest import MANIFEST
from saecore.errors import SaecoreError
from saecore.storage import checkpoint
from saecore.storage.run_directory import RECORD, RunDirectory


@attrs.frozen
class Finding:
    """The result of checking one file or directory."""

    path: Path
    """The file or directory."""
    damage: str | None = None
    """What is wrong with it; None if it is intact."""
    note: str = ""
    """A summary of the content, if it is intact."""


def verify(directory: Path) -> Iterator[Finding]:
    """Check every file of a run, finished or not: record, metrics, checkpoints, SAE, results.

    Args:
        directory: the directory of a run or of an activation cache.

    Raises:
        SaecoreError: it is neither.
    """
    if not directory.is_dir():
        raise SaecoreError(f"{directory}: no such directory; expected the directory of a run")
    if (directory / MANIFEST).exists():
        yield from _cache(directory)
        return
    run = RunDirectory(directory)
    if not any(p.exists() for p in (run.record_file, run.checkpoint_directory, run.sae_directory)):
        raise SaecoreError(f"{directory}: not a run's directory{_runs_below(directory)}")
    yield _checked(run.record_file, lambda _: _record(run))
    lengths = [0]
    for path in run.checkpoints():
        try:
            lengths.append(int(checkpoint.load(path)["run"]["metrics_length"]))
            yield Finding(path, note="every file matches the manifest")
        except SaecoreError as error:
            yield Finding(path, str(error).removeprefix(f"{path}: "))
        except (LookupError, TypeError, ValueError) as error:
            yield Finding(path, f"not the checkpoint of a run: {error}")
    yield _metrics(run.metrics_file, max(lengths))
    if run.is_finished:
        yield _checked(run.result_file, lambda _: _result(run))
    if run.is_finished or (run.sae_directory / "cfg.json").exists():
        yield _checked(run.sae_directory, _sae)


def _runs_below(directory: Path) -> str:
    """What a directory that is no run has instead: the runs below it, if any."""
    records = [*directory.glob(f"*/{RECORD}"), *directory.glob(f"*/*/{RECORD}")]
    if not records:
        return f" (it has no {RECORD})"
    runs = sorted(str(file.parent) for file in records)
    listed = ", ".join(runs[:5]) + (", …" if len(runs) > 5 else "")
    return f", but runs are below it; give one of them: {listed}"


def _cache(directory: Path) -> Iterator[Finding]:
    """Check every shard of an activation cache, including its hash."""
    from saecore.activations.cache.manifest import read_manifest
    from saecore.activations.cache.shards import check_hash, read_shard, shard_name

    def check_shard(file: Path) -> str:
        shard = read_shard(file.with_suffix(".json"))
        check_hash(file, shard)
        return f"{shard.bytes:_} bytes, unchanged"

    text = (directory / MANIFEST).read_text(encoding="utf-8")
    manifest = read_manifest(text, str(directory / MANIFEST))
    for side in ("held_out", "train"):
        for number in range(manifest.shards(side)):
            yield _checked(directory / shard_name(side, number), check_shard)


def _checked(path: Path, check: Callable[[Path], str]) -> Finding:
    """Run a check that returns a note or raises."""
    try:
        return Finding(path, note=check(path))
    except SaecoreError as error:
        return Finding(path, str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return Finding(path, f"cannot be read: {error.strerror}")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return Finding(path, f"damaged: {type(error).__name__}: {error}")


def _record(run: RunDirectory) -> str:
    return f"experiment {run.read_record()['experiment'].get('name')!r}"


def _result(run: RunDirectory) -> str:
    result = run.read_result()
    return f"{len(result['figures'])} evaluators, {result['training']['tokens']:_} tokens"


def _sae(path: Path) -> str:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from saecore.core.sae import SAE

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
    """Check metrics.jsonl: complete JSON lines, ascending steps, at least `length` bytes."""
    try:
        data = file.read_bytes()
    except OSError as error:
        return Finding(file, f"cannot be read: {error.strerror}")
    if len(data) < length:
        return Finding(file, f"{len(data)} bytes; it had {length} when a checkpoint was written")
    before, lines = 0, data.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            step = json.loads(line)["step"]
            if not isinstance(step, int) or step < before or not line.endswith(b"\n"):
                raise ValueError(f"step {step!r} after step {before}")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            return Finding(file, f"line {number}: not a line of metrics: {error}")
        before = step
    return Finding(file, note=f"{len(lines)} lines to step {before}")
