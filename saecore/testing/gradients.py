"""Compare gradients with finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from saecore.testing.component import fail
from saecore.testing.fakes import rows

STEPS = (1e-6, 1e-7)
"""Two step sizes, because a step may cross the edge of a selection, where there is no slope."""


def check_gradients(
    subject: object,
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor | None],
    value: Callable[[str, Tensor], float],
    straight_through: Collection[str] = (),
) -> None:
    """Compare gradients with central differences along random directions.

    Args:
        subject: the plugin.
        parameters: tensors by name.
        gradients: results of backward by name.
        value: the function, with one parameter replaced by another tensor.
        straight_through: parameters whose gradient deliberately differs from the slope; it only
            has to be finite.

    Raises:
        Nonconformance: a gradient is missing, not finite or wrong.
    """
    unknown = sorted(set(straight_through) - set(parameters))
    if unknown:
        fail(subject, f"straight_through names {unknown[0]!r}", f"known: {', '.join(parameters)}")
    for name, parameter in parameters.items():
        gradient = gradients[name]
        if gradient is None:
            fail(
                subject,
                f"parameter {name} has no gradient after a training step",
                "use it in the losses, or register it as a buffer if it is not trained",
            )
        if not bool(gradient.isfinite().all()):
            fail(subject, f"the gradient of {name} is not finite", "look for 0/0 and √0 in losses")
        if name in straight_through:
            continue
        for number in range(2):
            direction = rows(f"direction {number} of {name}", *parameter.shape).to(parameter)
            ours = float((gradient * direction).sum())
            slopes = []
            for step in STEPS:
                high = value(name, parameter.detach() + step * direction)
                low = value(name, parameter.detach() - step * direction)
                slopes.append((high - low) / (2 * step))
            if all(abs(ours - slope) > 1e-5 * (abs(ours) + abs(slope)) + 1e-7 for slope in slopes):
                fail(
                    subject,
                    f"backward gives {name} a gradient of {ours:.6g} along a direction in which "
                    f"the loss has the slope {slopes[0]:.6g} (central differences, float64)",
                    "correct the backward or remove a detach(); if the difference is "
                    "intended (a straight-through estimator, a part held fixed), pass "
                    f'straight_through=["{name}"]',
                )
