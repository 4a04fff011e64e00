"""Inputs of points that share activations, and how many of them fit into memory together."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch

from saecore.activations.build import buffer_settings, check_length, hook_site, read_tokens, sizes
from saecore.activations.shared_store import SharedActivationStore
from saecore.activations.token_cache import TokenRows
from saecore.config.experiment import Experiment
from saecore.config.sweep import Point
from saecore.core.model import ModelBackend, vector_size
from saecore.errors import SaecoreError
from saecore.runs.inputs import RunInputs, held_out_tokens, inputs_from_model
from saecore.runs.limits import check_limits
from saecore.runs.planning.memory import combine, make_plan
from saecore.runs.planning.plan import Plan, refuse_if_too_big


@attrs.frozen(eq=False)
class SharedInputs:
    """The model that the points of a group share, and the tokens read so far."""

    backend: ModelBackend
    device: torch.device
    rows: dict[int, TokenRows] = attrs.field(factory=dict)
    """Tokens, by the number of held-out tokens needed."""

    def plan(self, experiment: Experiment) -> Plan:
        """Plan one point alone.

        Raises:
            SaecoreError: it does not fit the model or into memory.
        """
        check_limits(experiment, self.backend)
        d_in, d_out = sizes(experiment, self.backend)
        plan = make_plan(experiment, self.backend, d_in, d_out, self.device)
        refuse_if_too_big(plan)
        return plan

    def inputs(self, points: Sequence[Point]) -> dict[str, RunInputs | SaecoreError]:
        """Build the inputs of each point over one shared store, or the error of the point."""
        inputs: dict[str, RunInputs | SaecoreError] = {}
        first = points[0].experiment
        hooks = dict.fromkeys(hook for point in points for hook in all_hooks(point.experiment))
        settings = buffer_settings(first, self.backend)
        site = attrs.evolve(settings.site, hooks=tuple(hooks), separate_targets=())
        store = SharedActivationStore(
            self.backend,
            self._rows(first).train,
            attrs.evolve(settings, site=site),
        )
        for point in points:
            experiment, model = point.experiment, point.experiment.language_model
            reader = store.reader(hook_site(model, experiment.dataset, self.backend))
            try:
                check_length(experiment, reader.rows())
                size = sizes(experiment, self.backend)
                rows = self._rows(experiment)
                inputs[point.name] = inputs_from_model(
                    experiment, self.backend, self.device, rows, reader, size
                )
            except SaecoreError as error:
                reader.leave()
                inputs[point.name] = error
        return inputs

    def _rows(self, experiment: Experiment) -> TokenRows:
        held_out = held_out_tokens(experiment)
        if held_out not in self.rows:
            self.rows[held_out] = read_tokens(experiment.dataset, self.backend, held_out)
        return self.rows[held_out]


def all_hooks(experiment: Experiment) -> tuple[str, ...]:
    """Return every hook whose activations a point needs, targets included."""
    model = experiment.language_model
    return (*model.read_hooks, *model.targets)


def batches_that_fit(
    shared: SharedInputs, points: Sequence[Point]
) -> tuple[list[tuple[list[Point], Plan]], dict[str, SaecoreError]]:
    """Divide points, in order, into batches that fit into memory side by side.

    Returns:
        The batches, each with its plan; and the errors of points that fit neither the model nor,
        alone, into memory.
    """
    batches: list[tuple[list[Point], Plan]] = []
    refused: dict[str, SaecoreError] = {}
    plans: dict[str, Plan] = {}
    for point in points:
        try:
            plans[point.name] = shared.plan(point.experiment)
        except SaecoreError as error:
            refused[point.name] = error
            continue
        if batches:
            joined = [*batches[-1][0], point]
            plan = _plan_together(shared, joined, plans)
            if plan.needed <= plan.limit:
                batches[-1] = joined, plan
                continue
        batches.append(([point], plans[point.name]))
    return batches, refused


def _plan_together(shared: SharedInputs, points: Sequence[Point], plans: dict[str, Plan]) -> Plan:
    hooks = dict.fromkeys(hook for point in points for hook in all_hooks(point.experiment))
    head = points[0].experiment.language_model.head
    size = sum(vector_size(shared.backend.d(hook), head) for hook in hooks)
    return combine([plans[point.name] for point in points], points[0].experiment, size)
