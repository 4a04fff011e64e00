"""`saecore check FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from saecore.config import Experiment
    from saecore.plan import Plan


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Lay a value over the file."
)
@click.option(
    "--no-measure", is_flag=True, help="Do not load the model: no memory and no time in the plan."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context, file: Path, settings: tuple[str, ...], no_measure: bool, as_json: bool
) -> None:
    """Validate FILE, print every setting with where it was set, and what a run would take.

    The origin of a value is the file, a file it extends, --set, or "default". The plan follows as
    comments: memory from sizes and a measurement of a few seconds, time from the latter. An
    experiment that does not fit into memory is refused with the value to lower. Of a sweep, every
    point is validated, and the plan says which are trained side by side; `saecore show` prints one.
    """
    from saecore.config import load_experiment
    from saecore.config.explain import annotated, to_tables
    from saecore.config.sweep import load_sweep

    sweep = load_sweep(file, settings)
    if sweep is not None:
        from saecore.cli._sweep_plan import check_sweep

        ctx.exit(1 if check_sweep(sweep, not no_measure, as_json) else 0)
    experiment, layers = load_experiment(file, settings)
    modelled = experiment.model is not None  # a dataset's own activations need no plan
    plan = _plan(experiment, layers.source) if modelled and not no_measure else None
    if as_json:
        from saecore.plan import as_tables

        tables = {"experiment": to_tables(experiment), "origins": layers.origins}
        click.echo(json.dumps({**tables, "plan": plan and as_tables(plan)}, indent=1))
        return
    click.echo(annotated(experiment, layers))
    t = experiment.training
    click.echo(f"# {t.steps * t.batch_size:,} tokens in {t.steps:,} steps of {t.batch_size:,}")
    if plan is not None:
        click.echo("\n".join(f"# {line}" for line in _lines(plan)))


def _plan(experiment: Experiment, source: str) -> Plan:
    """Load the model, count, measure; refuse what does not fit before and after measuring."""
    from saecore.plan import make_plan, measure, refuse_if_too_big
    from saecore.plan.record import CLOSE, size
    from saecore.reading import pick_device, sizes
    from saecore.sae_config import DTYPES

    model = experiment.language_model
    device = pick_device(model.device, source)
    backend = model.plugin.build(device, DTYPES[model.dtype])
    d_in, d_out = sizes(experiment, backend, source)
    plan = make_plan(experiment, backend, d_in, d_out, device)
    refuse_if_too_big(plan)
    plan = plan.measured(measure(experiment, backend, plan, device, source))
    refuse_if_too_big(plan)
    if plan.needed > CLOSE * plan.limit:
        click.echo(
            f"warning: the run takes {size(plan.needed)} of the {size(plan.limit)} of memory on "
            f"{plan.device}; another program may leave too little",
            err=True,
        )
    return plan


def _lines(plan: Plan) -> list[str]:
    from saecore.plan.record import size

    rows = {name: part.bytes for name, part in plan.memory.items()}
    rows.update({f"working memory: {name}": one.bytes for name, one in plan.working.items()})
    share = plan.needed / max(1, plan.limit)
    rows = {name: number for name, number in rows.items() if number}
    lines = [f"{plan.fills:,} fills of the window; memory on {plan.device}:"]
    lines += [f"  {name:<30}{size(number):>10}" for name, number in rows.items()]
    total = f"{size(plan.needed):>10} of {size(plan.limit)} ({share:.0%})"
    lines.append(f"  {'in all':<30}{total}")
    seen = plan.measurement
    if seen is not None and plan.seconds is not None:
        rate = plan.tokens / max(plan.seconds, 1e-9)
        lines.append(
            f"training takes about {duration(plan.seconds)}, {rate:,.0f} tokens/s "
            f"(model {1 / seen.seconds_per_token:,.0f}, "
            f"SAE {plan.batch_size / seen.seconds_per_step:,.0f}): an estimate from a short "
            "measurement; reading text and evaluation not included"
        )
    return lines


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
