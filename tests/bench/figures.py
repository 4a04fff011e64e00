"""The figures that are wanted, and whether a measurement reaches them.

"plain" and "accelerated" are ours without and with the compiled kernels; the aim is what a
prototype reached. A ratio is the peer's time over ours in the same rounds, unless it says else.
"""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the table."""

    plain: float
    accelerated: float
    aim: float
    at_most: bool = False
    """Whether less is better."""


STEP: dict[tuple[str, str], Figure] = {
    ("topk 512", "saelens"): Figure(4, 6, 12),
    ("topk 512", "sparsify"): Figure(1.4, 2.2, 4.5),
    ("topk 768", "saelens"): Figure(7, 10, 25),
    ("topk 768", "sparsify"): Figure(1.1, 1.6, 4),
    ("standard sparse", "saelens"): Figure(4, 5, 7),
    ("standard dense", "saelens"): Figure(1.3, 1.4, 1.6),
    ("batchtopk", "saelens"): Figure(4, 5, 10),
    ("jumprelu", "saelens"): Figure(3, 4, 10),
    ("matryoshka_batchtopk", "saelens"): Figure(3, 4, 10),
    ("gated", "saelens"): Figure(1.5, 2, 10),
}
"""(beginning of a case's name, peer): times as fast."""

FLOOR = Figure(2.8, 2.0, 1.0, at_most=True)
"""The step of topk at the first shape over its floor."""
MEMORY = Figure(0.45, 0.40, 0.35, at_most=True)
"""Peak memory of the process at the first shape, over SAELens'."""
GROWTH = {"saelens": Figure(5, 9, 20), "width": Figure(25, 12, 8, at_most=True)}
"""At d_sae 65536 against SAELens; time at 65536 over time at 4096."""
RUN = Figure(2.2, 3, 5)
"""Tokens per second of a run, over SAELens' runner."""
HARVEST = Figure(0.95, 0.95, 0.98)
"""The model's own forward to the hook over ours."""
GPU = {
    "floor": Figure(2, 2, 1.15, at_most=True),
    "saelens": Figure(5, 5, 8),
    "sparsify": Figure(2, 2, 3),
}
"""The topk step on an H200: over F1, against SAELens with autocast, against sparsify."""


def verdict(figure: Figure, ours: str, value: float | None) -> str:
    """Say "met" or "aim met", or name the miss with what was wanted.

    Args:
        figure: what is wanted.
        ours: "plain" or "accelerated".
        value: what was measured; None where it was not.
    """
    if value is None:
        return "not run"
    least = figure.plain if ours == "plain" else figure.accelerated
    sign = -1 if figure.at_most else 1
    if sign * value >= sign * figure.aim:
        return f"aim met ({figure.aim:g})"
    if sign * value >= sign * least:
        return f"met ({least:g}; aim {figure.aim:g})"
    return f"MISS ({'at most' if figure.at_most else 'at least'} {least:g} wanted)"
