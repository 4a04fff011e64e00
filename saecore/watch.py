"""Seeing numbers that are not finite in the step in which they occur, without waiting for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from saecore.errors import NumericsError

NAMES = ("a weight", "an activation", "a loss", "a gradient")
"""What is looked at, the gravest first."""


class NumberWatch:
    """Looks at the sums of a step's weights, activations, losses and gradients.

    The CPU reads them at once. Any other device works ahead of the host, and a look would make
    the host wait in every step. There the watch can be delayed: it keeps the first bad step on
    the device, from which on `stopped` holds the optimizer back, and copies it to the host behind
    the work. The host raises a step or two later, and knows which step it was.

    Args:
        device: where the numbers are.
        skip: leave a bad step out and go on, instead of stopping; needs a look at once.
        delayed: whether they are seen with a delay.
    """

    def __init__(self, device: torch.device, skip: bool, delayed: bool) -> None:
        self.skip, self.delayed = skip, delayed
        self._first = torch.full((1,), -1, dtype=torch.int64, device=device)
        """step · len(NAMES) + number of the first that was bad; −1 while there was none."""
        self._seen = torch.full((1,), -1, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._copied = torch.cuda.Event() if device.type == "cuda" else None

    @torch.no_grad()
    def good(self, step: int, numbers: Mapping[str, Tensor]) -> bool:
        """Whether the step may be taken, as far as it is known.

        Args:
            step: its number.
            numbers: a scalar for each of `NAMES`.

        Raises:
            NumericsError: one is not finite (delayed: was, in an earlier step) and steps are not
                skipped, or a weight is not.
        """
        finite = torch.isfinite(torch.stack([numbers[name].float() for name in NAMES]))
        if not self.delayed:
            # On the CPU this is a look at memory and no transfer.
            bad = [i for i, good in enumerate(finite.cpu().numpy()) if not good]
            if bad and (bad[0] == 0 or not self.skip):
                raise _error(step, bad[0])
            return not bad
        self.look()
        number = step * len(NAMES) + finite.to(torch.int8).argmin()
        self._first = torch.where((self._first < 0) & ~finite.all(), number, self._first)
        if self._copied is None or self._copied.query():
            self._seen.copy_(self._first, non_blocking=True)
            if self._copied is not None:
                self._copied.record()
        return True

    @property
    def stopped(self) -> Tensor | None:
        """1.0 once a step was bad, else 0.0: a scalar on the device; None where it is not kept."""
        return (self._first >= 0).float()[0] if self.delayed else None

    def look(self, wait: bool = False) -> None:
        """Raise what a delayed watch has seen.

        Args:
            wait: until the device has done all its work.

        Raises:
            NumericsError: there was a bad step.
        """
        if wait:
            self._seen.copy_(self._first)
        elif self._copied is not None and not self._copied.query():
            return
        found = int(self._seen.numpy()[0])
        if found >= 0:
            raise _error(*divmod(found, len(NAMES)))


def _error(step: int, number: int) -> NumericsError:
    if number == 0:
        return NumericsError(
            f"step {step}: a weight is not finite; lower training.lr and begin again"
        )
    return NumericsError(
        f"step {step}: {NAMES[number]} is not finite; the weights are those of the step before. "
        'Lower training.lr, check the activations, or set training.bad_numbers = "skip"'
    )
