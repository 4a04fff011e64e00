"""The contracts of activations, schedules and optimizers."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saecore import checkpoint
from saecore.codes import Codes
from saecore.errors import SaecoreError
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.fakes import D_IN, D_SAE, TOKENS, rows
from saecore.testing.gradients import check_gradients


def check_activation(
    name: str, settings: Settings = None, *, straight_through: Collection[str] = ()
) -> None:
    """Check an activation: Codes of the right shape, the centre, gradients, determinism.

    Args:
        name: as in `sae.activation`.
        settings: its table.
        straight_through: arguments of select (`x`, `W_enc`, `b_enc`, `centre`) whose gradient is
            not the slope on purpose.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("activation", name, settings)
    subject, activation = choice.component, choice.build()
    given = {
        "x": rows("x", TOKENS, D_IN),
        "W_enc": rows("W_enc", D_SAE, D_IN).t(),
        "b_enc": rows("b_enc", D_SAE),
        "centre": rows("centre", D_IN),
    }

    def select(**changed: Tensor) -> Codes:
        all_of = {**given, **changed}
        codes = activation.select(
            all_of["x"], all_of["W_enc"], all_of["b_enc"], centre=all_of["centre"]
        )
        if not isinstance(codes, Codes):
            fail(
                subject,
                f"select gave a {type(codes).__name__}",
                "return the Codes of a saecore.ops.select_… function",
            )
        return codes

    codes = select()
    if (codes.n_rows, codes.d_sae) != (TOKENS, D_SAE):
        fail(
            subject,
            f"select gave {codes.n_rows} rows of {codes.d_sae} latents",
            f"give one row a token ({TOKENS}) over all latents ({D_SAE})",
        )
    if len(torch.unique(codes.rows * D_SAE + codes.indices)) != len(codes.indices):
        fail(subject, "a latent stands twice in one row", "give each entry once")
    if not torch.equal(codes.dense(), select().dense()):
        fail(subject, "two calls give different features", "use no random numbers in select")
    without = activation.select(given["x"] - given["centre"], given["W_enc"], given["b_enc"])
    if not torch.allclose(codes.dense(), without.dense(), rtol=1e-9, atol=1e-9):
        fail(
            subject,
            "select(x, …, centre=c) differs from select(x - c, …)",
            "hand `centre` on to the saecore.ops function",
        )
    weights = rows("weights", TOKENS, D_SAE)
    leaves = {key: one.clone().requires_grad_() for key, one in given.items()}
    (select(**leaves).dense() * weights).sum().backward()
    check_gradients(
        subject,
        given,
        {key: one.grad for key, one in leaves.items()},
        lambda key, tensor: float((select(**{key: tensor}).dense() * weights).sum()),
        straight_through,
    )


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
                "asked in another order it gives other values",
                "compute the multiplier from (step, total) alone: a resumed run starts anywhere",
            )


def check_optimizer(name: str, settings: Settings = None) -> None:
    """Check an optimizer: it descends, follows the learning rate it is given, and its state goes
    on with the same bits.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("optimizer", name, settings)
    subject = choice.component

    def start() -> tuple[list[torch.nn.Parameter], Any]:
        made = [torch.nn.Parameter(rows(n, 5, 3, dtype=torch.float32)) for n in ("p", "q")]
        return made, choice.build(made, 0.05)

    def run(parameters: list[torch.nn.Parameter], optimizer: Any, steps: range, lr: float) -> None:
        for number in steps:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            noise = rows(f"noise {number}", 5, 3, dtype=torch.float32)
            loss = sum(((one - 1 + 0.1 * noise) ** 2).sum() for one in parameters)
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()

    parameters, optimizer = start()
    before = [one.detach().clone() for one in parameters]
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
                "20 steps at a rate of 0.05 do not come nearer to a minimum",
                "move every parameter it was given against its gradient",
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
    if any(not torch.equal(one, other) for one, other in zip(parameters, others, strict=True)):
        fail(
            subject,
            "gone on with from a saved state, it gives other parameters",
            "put everything that a step remembers into state_dict",
        )
