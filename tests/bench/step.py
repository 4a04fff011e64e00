"""`step` and `growth`: the whole training step as users train, ours and the peers', in turns.

Ours is `Trainer.step` with dead-latent bookkeeping, metrics, clipping, schedules and optimizer;
theirs are their own trainers. `growth` is topk over d_sae.
"""

from __future__ import annotations

import argparse
from typing import Any

from tests.bench import cases, figures
from tests.bench.cases import Shape
from tests.bench.figures import Figure, verdict
from tests.bench.record import Results, load
from tests.bench.rounds import measure, ratio

BACKENDS = {"plain": "reference", "accelerated": ""}
"""Ours: the backend that is forced; "" forces none, the dispatch chooses, as for users."""


def main(options: argparse.Namespace) -> None:
    """Measure what is missing; print every case and, of growth, the widths together."""
    growth = options.what == "growth"
    shapes = cases.WIDTHS if growth else cases.SHAPES
    if options.tiny:
        shapes = tuple(cases.TINY._replace(d_sae=cases.TINY.d_sae << i) for i in range(2))
    found = cases.names(shapes, ("topk",) if growth else cases.KINDS)
    results = Results(options.results / f"{options.what}.json", options.again, options.only)
    for name in results.missing(list(found)):
        before = load()
        contenders = cases.contenders(*found[name], BACKENDS)
        if growth:
            contenders = [one for one in contenders if one.name in GROWING]
        result = measure(contenders, options.peers, options.rounds, options.seconds)
        results.add(name, {"contenders": result}, before)
    for name, (_, shape) in found.items():
        if name in results.cases:
            show(name, shape, results.cases[name], growth)
    if growth:
        show_growth([(one, results.cases.get(name)) for name, (_, one) in found.items()])


GROWING = ("floor", *BACKENDS, "saelens", "sparsify")


def show(name: str, shape: Shape, case: dict[str, Any], growth: bool) -> None:
    """Print a case, and what of it is wanted."""
    found = case["contenders"]
    print(f"\n{name}: d_in, d_sae, batch, k; {case['date']}, load {case['load_before'][0]}")
    print(f"  {'':<20}{'median ms':>11}{'min ms':>11}{'tokens/s':>11}{'peak MiB':>10}")
    for who, one in found.items():
        if "failed" in one:
            print(f"  {who:<20}  failed: {one['failed']}")
            continue
        rate = 1e3 * shape.batch / one["median_ms"]
        print(f"  {who:<20}{one['median_ms']:>11.1f}{one['min_ms']:>11.1f}{rate:>11,.0f}"
              f"{one['peak_mib']:>10.0f}")  # fmt: skip
    for ours in BACKENDS:
        for label, figure, value in wanted(name, shape, found, ours, growth):
            shown = "-" if value is None else f"{value:.2f}"
            print(f"  {ours:<12} {label:<24}{shown:>8}  {verdict(figure, ours, value)}")


def wanted(
    name: str, shape: Shape, found: dict[str, Any], ours: str, growth: bool
) -> list[tuple[str, Figure, float | None]]:
    """The figures that a case is to reach: label, figure, what was measured."""
    if growth:
        last = shape.d_sae == cases.WIDTHS[-1].d_sae
        figure = figures.GROWTH["saelens"]
        return [("times SAELens' speed", figure, ratio(found, "saelens", ours))] if last else []
    rows = [
        (f"times {peer}'s speed", figure, ratio(found, peer, ours))
        for (kind, peer), figure in figures.STEP.items()
        if name.replace("(", "").startswith(kind)
    ]
    if name.startswith("topk") and shape == cases.SHAPES[0]:
        rows.append(("over the floor", figures.FLOOR, ratio(found, ours, "floor")))
        mine, other = (found.get(one, {}).get("peak_mib") for one in (ours, "saelens"))
        share = mine / other if mine and other else None
        rows.append(("of SAELens' memory", figures.MEMORY, share))
    return rows


def show_growth(measured: list[tuple[Shape, dict[str, Any] | None]]) -> None:
    """Print median times over d_sae, and the last over the first."""
    print(f"\nmedian ms{'':<13}" + "".join(f"{shape.d_sae:>10}" for shape, _ in measured))
    for who in GROWING:
        times = [(case or {}).get("contenders", {}).get(who, {}).get("median_ms")
                 for _, case in measured]  # fmt: skip
        cells = "".join(f"{'-' if one is None else f'{one:.1f}':>10}" for one in times)
        end = ""
        if times[0] and times[-1]:
            grown = times[-1] / times[0]
            said = verdict(figures.GROWTH["width"], who, grown) if who in BACKENDS else ""
            end = f"  x {grown:.1f}  {said}"
        print(f"  {who:<20}{cells}{end}")


def options_of(parser: argparse.ArgumentParser) -> None:
    """What `step` and `growth` can be told."""
    parser.add_argument("--rounds", type=int, default=11, help="counted steps of each")
    parser.add_argument("--seconds", type=float, default=120, help="no new round after (each case)")
    parser.add_argument("--tiny", action="store_true", help="sizes of a moment, to see it run")
