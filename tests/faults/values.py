"""Strings and numbers that should not be there."""

from __future__ import annotations

import random
from pathlib import Path

from saecore.config import structure_experiment
from saecore.errors import NumericsError, SaecoreError
from saecore.runs.resume import find
from saecore.runs.run import run
from saecore.storage.files import contained
from tests.faults.numbers import PLACES, injected
from tests.faults.report import Row
from tests.faults.small import tables

PARTS = ["..", ".", "/", "\\", "//", "a", "b-1", "C:", "~", "\0", "\n", "%2e%2e", "..%2f", "\u202e",
         "etc", "passwd", " ", "", "con", "-", "…", "．．", "*", "x" * 100, "$HOME",
         ";", "|"]  # fmt: skip


def traversal(text: Path, directory: Path, n: int, seed: int) -> Row:
    """Paths, drives, control characters in place of a name or a run's id."""
    row = Row(
        fault="traversal string as name or run id", must_hold="refused, or a place inside the root"
    )
    rng, root, refused = random.Random(seed), directory / "root", 0
    (directory / "experiment.json").write_text("{}")  # what an escape would find
    base = tables(text, root)
    inside = structure_experiment(base)
    for _ in range(n):
        name = "".join(rng.choice(PARTS) for _ in range(rng.randrange(1, 6)))
        row.n += 1
        if contained(name) and root not in Path(root, name).resolve().parents:
            row.failures.append(f"{name!r} is taken for a name")
        try:
            experiment = structure_experiment({**base, "name": name})
            place = Path(experiment.output) / experiment.name
            if root not in place.resolve().parents:
                row.failures.append(f"name {name!r} leads to {place}")
        except SaecoreError:
            refused += 1
        try:
            # A path that the caller gives is the caller's; an id is looked up below the name only.
            found = find(inside, name if "/" not in name else name.replace("/", "\\"))
            row.failures.append(f"id {name!r} finds {found}")
        except SaecoreError:
            pass
        except (OSError, ValueError) as error:
            row.failures.append(f"id {name!r}: untyped {type(error).__name__}: {error}")
    row.notes = f"{refused} refused as names"
    return row


def bad_numbers(text: Path, directory: Path, n: int, seed: int) -> Row:
    """One NaN or infinity in activations, loss, gradient or weights, at several steps."""
    row = Row(
        fault=f"1 NaN or 1 inf in each of {', '.join(PLACES)}",
        must_hold="stopped in that step, last good checkpoint named",
    )
    for place in PLACES:
        for bad in (float("nan"), float("inf"), float("-inf")):
            step = (5, 6, 9)[row.n % 3]
            row.n += 1
            base = tables(text, directory / str(row.n))
            try:
                with injected(place, bad, step):
                    run(structure_experiment(base))
                row.failures.append(f"{bad} in {place}: not seen")
            except NumericsError as error:
                good = f"step-{step // 4 * 4:08d}"
                if f"step {step}: " not in str(error) or not str(error).endswith(good):
                    row.failures.append(f"{bad} in {place}: {error}")
    return row
