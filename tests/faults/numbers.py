"""One number that is not finite, put into one place of one step."""

from __future__ import annotations

import contextlib

import torch

from saecore.core.step import StepOutput
from saecore.training.trainer import Trainer

PLACES = ("activation", "loss", "gradient", "weight")


@contextlib.contextmanager
def injected(place: str, bad: float, step: int):
    """Make one element of a place `bad` in step `step`."""
    step_of, backward = Trainer.step, Trainer._backward

    def stepping(self):
        if self.completed == step and place == "weight":
            with torch.no_grad():
                self.sae.W_dec[5, 3] = bad
        if self.completed == step and place == "activation":
            real = self.source.next

            def poisoned(size):
                batch = real(size)
                batch.inputs[7, 2] = bad
                return batch

            self.source.next = poisoned
            try:
                step_of(self)
            finally:
                self.source.next = real
            return
        step_of(self)

    def with_bad_number(self, part, context):
        if place not in ("loss", "gradient") or self.completed != step:
            return backward(self, part, context)
        if place == "gradient":
            result = backward(self, part, context)
            self.sae.W_dec.grad[5, 3] = bad
            return result
        total = StepOutput.total
        StepOutput.total = property(lambda output: total.fget(output) + bad)
        try:
            return backward(self, part, context)
        finally:
            StepOutput.total = total

    Trainer.step, Trainer._backward = stepping, with_bad_number
    try:
        yield
    finally:
        Trainer.step, Trainer._backward = step_of, backward
