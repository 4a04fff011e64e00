"""The feeds of points that read one stream, and how many of them fit into memory together."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch

from saecore.backend import ModelBackend
from saecore.config.experiment import Experiment
from saecore.config.sweep import Point
from saecore.data.shared import SharedStream
from saecore.data.tokens import TokenRows
from saecore.errors import SaecoreError
from saecore.feed import Feed, evaluated, model_feed
from saecore.plan import Plan, make_plan, refuse_if_too_big, together
from saecore.reading import check_length, read_tokens, sizes, window_settings


@attrs.frozen(eq=False)
class Shared:
    """What the points of a group have in common: the model, and the tokens read so far."""

    backend: ModelBackend
    device: torch.device
    source: str
    """Where the experiments come from, for error messages."""
    rows: dict[int, TokenRows] = attrs.field(factory=dict)
    """Tokens, by how many of the held-out ones are needed."""

    def plan(self, experiment: Experiment) -> Plan:
        """What one point takes by itself.

        Raises:
            SaecoreError: it does not fit the model, or not into memory.
        """
        d_in, d_out = sizes(experiment, self.backend, self.source)
        plan = make_plan(experiment, self.backend, d_in, d_out, self.device)
        refuse_if_too_big(plan)
        return plan

    def feeds(self, points: Sequence[Point]) -> dict[str, Feed | SaecoreError]:
        """A feed for each point, over one stream; or what is wrong with the point."""
        made: dict[str, Feed | SaecoreError] = {}
        first = points[0].experiment
        hooks = dict.fromkeys(hook for one in points for hook in read(one.experiment))
        stream = SharedStream(
            self.backend,
            self._rows(first).train,
            attrs.evolve(window_settings(first, self.backend), hooks=tuple(hooks), targets=()),
        )
        for point in points:
            experiment, model = point.experiment, point.experiment.language_model
            reader = stream.reader(model.read_hooks, model.targets)
            try:
                check_length(experiment, reader)
                size = sizes(experiment, self.backend, self.source)
                rows = self._rows(experiment)
                made[point.name] = model_feed(
                    experiment, self.backend, self.device, rows, reader, size
                )
            except SaecoreError as error:
                reader.leave()
                made[point.name] = error
        return made

    def _rows(self, experiment: Experiment) -> TokenRows:
        wanted = evaluated(experiment)
        if wanted not in self.rows:
            self.rows[wanted] = read_tokens(experiment.dataset, self.backend, self.source, wanted)
        return self.rows[wanted]


def read(experiment: Experiment) -> tuple[str, ...]:
    """Every hook that a point reads."""
    model = experiment.language_model
    return (*model.read_hooks, *model.targets)


def batches_that_fit(
    shared: Shared, points: Sequence[Point]
) -> tuple[list[tuple[list[Point], Plan]], dict[str, SaecoreError]]:
    """Divide points into batches that fit into memory side by side, in order.

    Returns:
        The batches, each with its plan; and points that do not fit even alone, or not the model.
    """
    made: list[tuple[list[Point], Plan]] = []
    refused: dict[str, SaecoreError] = {}
    plans: dict[str, Plan] = {}
    for point in points:
        try:
            plans[point.name] = shared.plan(point.experiment)
        except SaecoreError as error:
            refused[point.name] = error
            continue
        if made:
            joined = [*made[-1][0], point]
            plan = _planned(shared, joined, plans)
            if plan.needed <= plan.limit:
                made[-1] = joined, plan
                continue
        made.append(([point], plans[point.name]))
    return made, refused


def _planned(shared: Shared, points: Sequence[Point], plans: dict[str, Plan]) -> Plan:
    hooks = dict.fromkeys(hook for one in points for hook in read(one.experiment))
    head = points[0].experiment.language_model.head
    size = sum(_size(shared.backend.d(hook), head) for hook in hooks)
    return together([plans[one.name] for one in points], points[0].experiment, size)


def _size(d: tuple[int, ...], head: int | None) -> int:
    return d[-1] if head is not None or len(d) == 1 else d[0] * d[1]
