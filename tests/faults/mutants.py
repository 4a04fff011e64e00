"""Files that were changed: checkpoints, SAE directories, experiment files."""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tomli_w
import torch

from saecore import SAE, load_experiment
from saecore.errors import SaecoreError
from saecore.storage import checkpoint
from tests.faults.report import Row
from tests.faults.small import tables, whole

FORBIDDEN = ("os.system", "subprocess.Popen", "pickle.find_class", "socket.connect", "os.exec")
SECONDS = 1.0
_watch: list[str] | None = None


def _audit(event: str, args: tuple) -> None:
    if _watch is not None and event in FORBIDDEN:
        _watch.append(f"{event} {args!r:.80}")


sys.addaudithook(_audit)


def changed(rng: random.Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """One change of a file's bytes; `other` is another file of the same place."""
    at, length = rng.randrange(len(data) + 1), rng.randrange(1, 40)
    near = min(at, rng.randrange(400))  # headers are at the beginning
    kind = rng.choice(["truncate", "flip", "flip", "byte", "insert", "delete", "blank", "zeros",
                       "digit", "swap", "repeat", "deep"])  # fmt: skip
    flip = rng.choice([at, near]) if data else 0
    digits = [i for i, byte in enumerate(data[:4000]) if chr(byte).isdigit()]
    if kind == "digit" and digits:
        i = rng.choice(digits)
        return kind, data[:i] + str(rng.randrange(10 ** rng.randrange(1, 20))).encode() + data[
            i + 1 :
        ]
    return kind, {
        "truncate": data[:at],
        "flip": data[:flip] + bytes(b ^ (1 << rng.randrange(8)) for b in data[flip : flip + 1])
        + data[flip + 1 :],
        "byte": data[:near] + rng.randbytes(1) + data[near + 1 :],
        "insert": data[:near] + rng.randbytes(length) + data[near:],
        "delete": data[:near] + data[near + length :],
        "blank": b"",
        "zeros": bytes(len(data)),
        "swap": other,
        "repeat": data + data,
        "deep": b"[" * rng.choice([100, 10_000]) + data,
        "digit": data[:-1],
    }[kind]  # fmt: skip


def attempted(row: Row, what: str, load: Callable[[], str | None]) -> None:
    """Load a mutant: a SaecoreError, or what `load` returns (None: it is all right)."""
    global _watch
    begin, _watch = time.process_time(), []  # of this process: others may be busy
    try:
        complaint = load()
    except SaecoreError:
        complaint = None
    except BaseException as error:
        complaint = f"untyped {type(error).__name__}: {error}"
    seen, _watch = _watch, None
    if time.process_time() - begin > SECONDS:
        complaint = f"took {time.process_time() - begin:.1f} s"
    row.n += 1
    row.failures += [f"{what}: {one}" for one in (*seen, *([complaint] if complaint else []))]


def checkpoints(text: Path, directory: Path, n: int, seed: int) -> Row:
    """A file of a checkpoint is changed, or exchanged for that of another checkpoint."""
    row = Row(
        fault="mutated checkpoint file",
        must_hold="typed error in under 1 s of CPU time, no change accepted, no code executed",
    )
    run = whole(tables(text, directory / "runs"))
    first, second = checkpoint.checkpoints(run / "checkpoints")
    rng, place = random.Random(seed), directory / first.name
    shutil.copytree(first, place)
    for i in range(n):
        name = rng.choice([*checkpoint.FILES, "manifest.json"])
        before, other = (first / name).read_bytes(), (second / name).read_bytes()
        kind, data = changed(rng, before, other)
        if data == before:
            continue
        (place / name).write_bytes(data)

        def load() -> str:
            checkpoint.load(place)
            return "accepted"

        attempted(row, f"{i} {kind} {name}", load)
        (place / name).write_bytes(before)
    checkpoint.load(place)
    return row


def saes(text: Path, directory: Path, n: int, seed: int) -> Row:
    """A file of a saved SAE is changed; there is no checksum, so that some changes are valid."""
    row = Row(
        fault="mutated SAE directory",
        must_hold="typed error, or an SAE with finite weights; under 1 s of CPU, no code executed",
    )
    sae = whole(tables(text, directory / "runs")) / "sae"
    rng, place, accepted = random.Random(seed), directory / "sae", 0
    shutil.copytree(sae, place)
    names = ("cfg.json", "sae_weights.safetensors")
    for i in range(n):
        name = rng.choice(names)
        before = (sae / name).read_bytes()
        kind, data = changed(rng, before, (sae / names[name == names[0]]).read_bytes())
        (place / name).write_bytes(data)

        def load() -> str | None:
            nonlocal accepted
            found = SAE.load_from_disk(place)
            accepted += 1
            good = all(bool(torch.isfinite(one).all()) for one in found.state_dict().values())
            return None if good else "weights that are not finite"

        attempted(row, f"{i} {kind} {name}", load)
        (place / name).write_bytes(before)
    row.notes = f"{accepted} valid"
    return row


VALUES = [None, True, -1, 0, 1, 2**70, 3.5, float("nan"), float("inf"), "", "3", "../x", "\0", "𝕏",
          [], [1], ["a", 1], {}, {"type": "topk"}, {"__class__": "os"}, "__import__('os')",
          "x" * 10_000, [[[[]]]]]  # fmt: skip
KINDS = ("value", "key", "gone", "bytes")
"""What is changed: a value, a key's name, a key that is missing, any bytes."""
KEYS = ["__class__", "_target_", "k ", "K", "typ", "ſ", "a.b", "", "type", "architecture"]


def experiments(text: Path, directory: Path, n: int, seed: int) -> Row:
    """Experiment files with something changed at any depth, `n` of each of `KINDS`."""
    row = Row(
        fault="mutated experiment file",
        must_hold="typed error, or valid; in under 1 s of CPU time, no code executed",
    )
    base, rng = tables(text, directory), random.Random(seed)
    file, accepted = directory / "mutant.toml", 0
    for i in range(n * len(KINDS)):
        kind = KINDS[i % len(KINDS)]
        mutant = tables(text, directory)
        table = mutant
        while rng.random() < 0.7:
            inner = [one for one in table.values() if isinstance(one, dict) and one]
            if not inner:
                break
            table = rng.choice(inner)
        key = rng.choice(list(table))
        if kind == "value":
            table[key] = rng.choice([one for one in VALUES if one is not None])
        elif kind == "key":
            table[rng.choice(KEYS)] = table[key]
        elif kind == "gone":
            del table[key]
        data = tomli_w.dumps(base if kind == "bytes" else mutant).encode(errors="replace")
        if kind == "bytes":
            _, data = changed(rng, data, b"\xef\xbb\xbf" + data)
        file.write_bytes(data)

        def load() -> str | None:
            nonlocal accepted
            load_experiment(file)
            accepted += 1
            return None

        attempted(row, f"{i} {kind} {key}", load)
    row.notes = f"{n} of each of {', '.join(KINDS)}; {accepted} valid"
    return row
