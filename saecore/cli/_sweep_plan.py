"""What `saecore check` says of a sweep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from saecore.config.sweep import Point, Sweep
    from saecore.plan import Plan
    from saecore.sweep.feeds import Shared
    from saecore.sweep.groups import Group


def check_sweep(sweep: Sweep, measured: bool, as_json: bool) -> int:
    """Print which points are trained side by side, in what memory and time.

    Returns:
        How many points cannot be trained.
    """
    from saecore.sweep.groups import groups

    told: list[dict[str, Any]] = []
    for group in groups(sweep.points):
        told += _planned(group, sweep, measured)
    if as_json:
        click.echo(json.dumps({"name": sweep.name, "batches": told}, indent=1))
    else:
        click.echo(f"{sweep.name}: {len(sweep.points)} points, all valid")
        click.echo("\n".join(line for one in told for line in _lines(one)))
    return sum(len(one["points"]) for one in told if "error" in one)


def _planned(group: Group, sweep: Sweep, measured: bool) -> Iterator[dict[str, Any]]:
    """Each batch of points that are trained side by side, and each point that cannot be."""
    from saecore.feed import load_model
    from saecore.sweep.feeds import Shared, batches_that_fit
    from saecore.sweep.groups import shareable

    names = [one.name for one in group.points]
    apart = {"apart": group.apart} if group.apart else {}
    if not measured or not shareable(group.points[0].experiment):
        yield {"points": names, **apart}
        return
    shared = Shared(*load_model(group.points[0].experiment, sweep.source), sweep.source)
    batches, refused = batches_that_fit(shared, group.points)
    for name, error in refused.items():
        yield {"points": [name], "error": str(error)}
    for points, plan in batches:
        seconds = _seconds(points, plan, shared)
        sizes = {"needed": plan.needed, "limit": plan.limit, "device": plan.device}
        yield {"points": [one.name for one in points], **apart, **sizes, "seconds": seconds}


def _seconds(points: list[Point], plan: Plan, shared: Shared) -> float:
    """Of one pass of the model and every SAE's steps, from short measurements."""
    from saecore.plan import measure

    seen = [
        measure(one.experiment, shared.backend, plan, shared.device, shared.source)
        for one in points
    ]
    steps = (
        one.experiment.training.steps * its.seconds_per_step
        for one, its in zip(points, seen, strict=True)
    )
    return plan.tokens * min(one.seconds_per_token for one in seen) + sum(steps)


def _lines(told: dict[str, Any]) -> Iterator[str]:
    from saecore.cli.check import duration
    from saecore.plan.record import size

    if "error" in told:
        yield f"{told['points'][0]}: {told['error']}"
        return
    points = told["points"]
    head = f"{len(points)} side by side" if len(points) > 1 else points[0]
    if "apart" in told:
        head += f" (apart, {told['apart']})"
    if "needed" in told:
        share = told["needed"] / max(1, told["limit"])
        head += (
            f": {size(told['needed'])} of {size(told['limit'])} on {told['device']} ({share:.0%}), "
            f"about {duration(told['seconds'])} of training"
        )
    yield head
    if len(points) > 1:
        yield from (f"  {name}" for name in points)
