"""The contracts of schedules and optimizers."""

from __future__ import annotations

import copy
import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from saecore.errors import SaecoreError
from saecore.storage import checkpoint
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.fakes import rows


def check_schedule(name: str, settings: Settings = None) -> None:
    """Check a schedule: a finite multiplier ≥ 0 that depends on step and total alone.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("schedule", name, settings)
    subject, schedule = choice.component, choice.build()
    for total in (1, 2, 50):
        try:
            values = [schedule(step, total) for step in range(-1, total)]
        except ArithmeticError as error:
            fail(
                subject,
                f"in a run of {total} steps it raises {type(error).__name__}: {error}",
                "give a multiplier for every step from -1 (before the first) to total - 1",
            )
        for step, value in zip(range(-1, total), values, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | float):
                fail(
                    subject,
                    f"step {step} of {total} gives a {type(value).__name__}",
                    "return a Python float",
                )
            if not (math.isfinite(value) and value >= 0):
                fail(
                    subject,
                    f"step {step} of {total} gives {value}",
                    "return a finite number ≥ 0 for every step from -1 (before the first) to "
                    "total - 1, also in runs of one step",
                )
        backwards = [choice.build()(step, total) for step in reversed(range(-1, total))]
        if backwards[::-1] != values:
            fail(
                subject,
                "called in another order it gives other values",
                "compute the multiplier from (step, total) alone: a resumed run starts anywhere",
            )


def check_optimizer(name: str, settings: Settings = None) -> None:
    """Check an optimizer: it descends, follows the learning rate, and resumes with the same bits.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("optimizer", name, settings)
    subject = choice.component

    def start() -> tuple[list[torch.nn.Parameter], Any]:
        parameters = [
            torch.nn.Parameter(rows(name, 5, 3, dtype=torch.float32)) for name in ("p", "q")
        ]
        return parameters, choice.build(parameters, 0.05)

    def run(parameters: list[torch.nn.Parameter], optimizer: Any, steps: range, lr: float) -> None:
        for number in steps:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            noise = rows(f"noise {number}", 5, 3, dtype=torch.float32)
            loss = sum(((parameter - 1 + 0.1 * noise) ** 2).sum() for parameter in parameters)
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()

    parameters, optimizer = start()
    before = [parameter.detach().clone() for parameter in parameters]
    run(parameters, optimizer, range(3), 0.0)
    if any(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True)):
        fail(
            subject,
            "it changes parameters while the learning rate is 0",
            'read group["lr"] in every step; the trainer sets it by its schedule',
        )
    parameters, optimizer = start()
    run(parameters, optimizer, range(20), 0.05)
    for old, new in zip(before, parameters, strict=True):
        if not bool((new - 1).norm() < (old - 1).norm()):
            fail(
                subject,
                "20 steps at a rate of 0.05 do not come closer to a minimum",
                "move every parameter against its gradient",
            )
    state = copy.deepcopy(optimizer.state_dict())
    others, fresh = start()
    with tempfile.TemporaryDirectory() as directory, torch.no_grad():
        try:
            fresh.load_state_dict(
                checkpoint.load(checkpoint.save(Path(directory), 1, {"optimizer": state}, 2))[
                    "optimizer"
                ]
            )
        except (SaecoreError, TypeError, ValueError, KeyError) as error:
            fail(
                subject,
                f"its state cannot be saved and loaded: {type(error).__name__}: {error}",
                "keep tensors, numbers, strings, lists and tables in state_dict",
            )
        for mine, theirs in zip(others, parameters, strict=True):
            mine.copy_(theirs)
    run(parameters, optimizer, range(20, 25), 0.05)
    run(others, fresh, range(20, 25), 0.05)
    if any(not torch.equal(p, other) for p, other in zip(parameters, others, strict=True)):
        fail(
            subject,
            "resumed from a saved state, it gives other parameters",
            "put everything that a step remembers into state_dict",
        )
