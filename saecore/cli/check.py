"""`saecore check FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saecore.cli._options import experiment_argument, json_option, set_option
from saecore.errors import labeled_errors, warn

if TYPE_CHECKING:
    from saecore.config.experiment import Experiment
    from saecore.runs.planning.plan import Plan


@click.command("check")
@experiment_argument
@set_option()
@click.option(
    "--no-measure", is_flag=True, help="Do not load the model: the plan has no memory and no time."
)
@json_option()
@click.pass_context
def command(
    ctx: click.Context, file: Path, settings: tuple[str, ...], no_measure: bool, as_json: bool
) -> None:
    """Validate FILE; print every setting with its origin, and the memory and time of a run.

    The origin of a value is the file, a file that it extends, --set, or "default". The plan follows
    as comments: memory from sizes and a measurement of a few seconds, time from the measurement. An
    experiment that does not fit into memory is refused with the value to lower. For a sweep, every
    point is validated, and the plan lists which are trained side by side; `saecore show` prints
    a single point.
    """
    from saecore.config.load import LoadedExperiment, load
    from saecore.config.messages import annotated, to_tables

    loaded = load(file, settings)
    if not isinstance(loaded, LoadedExperiment):
        from saecore.cli._plan_text import check_sweep

        ctx.exit(1 if check_sweep(loaded, not no_measure, as_json) else 0)
    experiment, layers = loaded.experiment, loaded.layers
    has_model = experiment.model is not None  # a dataset of activations needs no plan
    with labeled_errors(layers.label):
        if not has_model and not no_measure:
            from saecore.runs.limits import check_limits

            check_limits(experiment)
        plan = _plan(experiment) if has_model and not no_measure else None
    if as_json:
        from saecore.runs.planning.plan import as_tables

        tables = {"experiment": to_tables(experiment), "origins": layers.origins}
        click.echo(json.dumps({**tables, "plan": plan and as_tables(plan)}, indent=1))
        return
    click.echo(annotated(experiment, layers))
    t = experiment.training
    click.echo(f"# {t.steps * t.batch_size:,} tokens in {t.steps:,} steps of {t.batch_size:,}")
    if plan is not None:
        from saecore.cli._plan_text import plan_lines

        click.echo("\n".join(f"# {line}" for line in plan_lines(plan)))


def _plan(experiment: Experiment) -> Plan:
    """Load the model, count, measure; refuse a plan that does not fit, before and afterwards."""
    from saecore.activations.build import sizes
    from saecore.runs.inputs import load_model
    from saecore.runs.limits import check_limits
    from saecore.runs.planning.memory import make_plan
    from saecore.runs.planning.plan import CLOSE, refuse_if_too_big, size
    from saecore.runs.planning.profile import measure

    backend, device = load_model(experiment)
    check_limits(experiment, backend)
    d_in, d_out = sizes(experiment, backend)
    plan = make_plan(experiment, backend, d_in, d_out, device)
    refuse_if_too_big(plan)
    plan = plan.measured(measure(experiment, backend, plan, device))
    refuse_if_too_big(plan)
    if plan.needed > CLOSE * plan.limit:
        warn(
            f"the run takes {size(plan.needed)} of the {size(plan.limit)} of memory on "
            f"{plan.device}; another program may leave too little"
        )
    return plan
