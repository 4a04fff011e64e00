"""Format the plan of a run or a sweep, for `saecore check`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from saecore.errors import SaecoreError

if TYPE_CHECKING:
    from saecore.config.sweep import Point, Sweep
    from saecore.runs.planning.plan import Plan
    from saecore.sweeps.groups import Group
    from saecore.sweeps.shared_inputs import SharedInputs


def check_sweep(sweep: Sweep, measured: bool, as_json: bool) -> int:
    """Print which points are trained side by side, with their memory and time.

    Args:
        sweep: the sweep.
        measured: whether to load the model and measure.
        as_json: whether to print JSON.

    Returns:
        The number of points that cannot be trained.
    """
    from saecore.sweeps.groups import groups

    batches = [batch for group in groups(sweep.points) for batch in _batches(group, measured)]
    if as_json:
        click.echo(json.dumps({"name": sweep.name, "batches": batches}, indent=1))
    else:
        click.echo(f"{sweep.name}: {len(sweep.points)} points, all valid")
        click.echo("\n".join(line for batch in batches for line in _lines(batch)))
    return sum(len(batch["points"]) for batch in batches if "error" in batch)


def _batches(group: Group, measured: bool) -> Iterator[dict[str, Any]]:
    """Plan each batch of points that are trained side by side; report those that cannot be."""
    from saecore.runs.inputs import load_model
    from saecore.sweeps.groups import shareable
    from saecore.sweeps.shared_inputs import SharedInputs, batches_that_fit

    names = [point.name for point in group.points]
    apart = {"apart": group.apart} if group.apart else {}
    if not measured:
        yield {"points": names, **apart}
        return
    if not shareable(group.points[0].experiment):
        limit = _limit(group.points[0])
        yield {"points": names, **(apart if limit is None else {"error": limit})}
        return
    shared = SharedInputs(*load_model(group.points[0].experiment))
    batches, refused = batches_that_fit(shared, group.points)
    for name, error in refused.items():
        yield {"points": [name], "error": str(error)}
    for points, plan in batches:
        seconds = _seconds(points, plan, shared)
        sizes = {"needed": plan.needed, "limit": plan.limit, "device": plan.device}
        yield {"points": [point.name for point in points], **apart, **sizes, "seconds": seconds}


def _limit(point: Point) -> str | None:
    """Say what keeps a point from being trained, if it shares no activations."""
    from saecore.runs.inputs import load_model
    from saecore.runs.limits import check_limits

    experiment = point.experiment
    recorded = "recorded" in experiment.dataset.loader.component.provides
    try:
        read = experiment.model is not None and not recorded
        check_limits(experiment, load_model(experiment)[0] if read else None)
    except SaecoreError as error:
        return str(error)
    return None


def _seconds(points: list[Point], plan: Plan, shared: SharedInputs) -> float:
    """Estimate the time of one pass of the model and the steps of every SAE."""
    from saecore.runs.planning.profile import measure

    measurements = [measure(p.experiment, shared.backend, plan, shared.device) for p in points]
    steps = (
        point.experiment.training.steps * measurement.seconds_per_step
        for point, measurement in zip(points, measurements, strict=True)
    )
    return plan.tokens * min(m.seconds_per_token for m in measurements) + sum(steps)


def _lines(batch: dict[str, Any]) -> Iterator[str]:
    from saecore.runs.planning.plan import size

    if "error" in batch:
        yield f"{batch['points'][0]}: {batch['error']}"
        return
    points = batch["points"]
    head = f"{len(points)} side by side" if len(points) > 1 else points[0]
    if "apart" in batch:
        head += f" (apart, {batch['apart']})"
    if "needed" in batch:
        needed, limit = batch["needed"], batch["limit"]
        head += (
            f": {size(needed)} of {size(limit)} on {batch['device']} "
            f"({needed / max(1, limit):.0%}), about {duration(batch['seconds'])} of training"
        )
    yield head
    if len(points) > 1:
        yield from (f"  {name}" for name in points)


def plan_lines(plan: Plan) -> list[str]:
    """Format the memory of a plan part by part, and the time if it was measured."""
    from saecore.runs.planning.plan import size

    rows = {name: part.bytes for name, part in plan.memory.items()}
    rows.update({f"working memory: {name}": part.bytes for name, part in plan.working.items()})
    share = plan.needed / max(1, plan.limit)
    rows = {name: number for name, number in rows.items() if number}
    lines = [f"{plan.fills:,} fills of the window; memory on {plan.device}:"]
    lines += [f"  {name:<30}{size(number):>10}" for name, number in rows.items()]
    total = f"{size(plan.needed):>10} of {size(plan.limit)} ({share:.0%})"
    lines.append(f"  {'in all':<30}{total}")
    measurement = plan.measurement
    if measurement is not None and plan.seconds is not None:
        rate = plan.tokens / max(plan.seconds, 1e-9)
        lines.append(
            f"training takes about {duration(plan.seconds)}, {rate:,.0f} tokens/s "
            f"(model {1 / measurement.seconds_per_token:,.0f}, "
            f"SAE {plan.batch_size / measurement.seconds_per_step:,.0f}): an estimate from a short "
            "measurement; reading text and evaluation not included"
        )
    return lines


def duration(seconds: float) -> str:
    """Format seconds for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
