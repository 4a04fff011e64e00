"""Detect numbers that are not finite in the step where they occur, without blocking the host."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from saecore.errors import NumericsError

NAMES = ("a weight", "an activation", "a loss", "a gradient")
"""What is checked, the most serious first."""


class NonFiniteCheck:
    """Checks the sums of a step's weights, activations, losses and gradients.

    On the CPU they are read immediately. Other devices run ahead of the host, and reading would
    block it in every step. A delayed check instead records the first bad step on the device, where
    `stopped` holds back the optimizer from then on, and copies it to the host asynchronously. The
    host raises one or two steps later and names the right step.

    Args:
        device: where the numbers are.
        skip: skip bad steps instead of stopping; needs immediate reading.
        delayed: whether to read with a delay.
    """

    def __init__(self, device: torch.device, skip: bool, delayed: bool) -> None:
        self.skip, self.delayed = skip, delayed
        self._first = torch.full((1,), -1, dtype=torch.int64, device=device)
        """step · len(NAMES) + index in NAMES of the first bad number; −1 while there is none."""
        self._seen = torch.full((1,), -1, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._copied = torch.cuda.Event() if device.type == "cuda" else None

    @torch.no_grad()
    def passes(self, step: int, numbers: Mapping[str, Tensor]) -> bool:
        """Return whether all numbers are finite, as far as is known yet.

        Args:
            step: the step number.
            numbers: a scalar for each of `NAMES`.

        Raises:
            NumericsError: a number is not finite (delayed: was not, in an earlier step) and steps
                are not skipped, or a weight is not finite.
        """
        finite = torch.isfinite(torch.stack([numbers[name].float() for name in NAMES]))
        if not self.delayed:
            # On the CPU this reads memory; nothing is transferred.
            bad = [i for i, is_finite in enumerate(finite.cpu().numpy()) if not is_finite]
            if bad and (bad[0] == 0 or not self.skip):
                raise _error(step, bad[0])
            return not bad
        self.report()
        number = step * len(NAMES) + finite.to(torch.int8).argmin()
        self._first = torch.where((self._first < 0) & ~finite.all(), number, self._first)
        if self._copied is None or self._copied.query():
            self._seen.copy_(self._first, non_blocking=True)
            if self._copied is not None:
                self._copied.record()
        return True

    @property
    def stopped(self) -> Tensor | None:
        """1.0 after a bad step, else 0.0: a scalar on the device; None without delay."""
        return (self._first >= 0).float()[0] if self.delayed else None

    def report(self, wait: bool = False) -> None:
        """Raise if a delayed check has found a bad step.

        Args:
            wait: wait until the device has finished all its work.

        Raises:
            NumericsError: there was a bad step.
        """
        if wait:
            self._seen.copy_(self._first)
        elif self._copied is not None and not self._copied.query():
            return
        first = int(self._seen.numpy()[0])
        if first >= 0:
            raise _error(*divmod(first, len(NAMES)))


def _error(step: int, number: int) -> NumericsError:
    if number == 0:
        return NumericsError(
            f"step {step}: a weight is not finite; lower training.lr and start again"
        )
    return NumericsError(
        f"step {step}: {NAMES[number]} is not finite; the weights are those of the step before. "
        'Lower training.lr, check the activations, or set training.bad_numbers = "skip"'
    )
