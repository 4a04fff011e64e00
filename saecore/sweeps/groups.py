"""Group the points of a sweep by the activations that they can share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from saecore.config.experiment import Experiment
from saecore.config.messages import flatten, to_tables
from saecore.config.sweep import Point

SHARED = ("model", "dataset", "buffer")
"""Tables that points with shared activations have in common."""
HOOKS = ("hook", "hooks", "target_hook", "target_hooks")
"""Settings of [model] in which such points may differ."""


@attrs.frozen(eq=False)
class Group:
    """Points that are trained side by side."""

    points: Sequence[Point]
    """One point, or several that share the model's forward pass."""
    apart: str = ""
    """Why they do not share it with the points before them."""


def groups(points: Sequence[Point]) -> list[Group]:
    """Group points with the same [model] (except hooks), [dataset] and [buffer].

    Groups, and the points in each, keep the order of the file.
    """
    members: list[tuple[dict[str, Any], list[Point], str]] = []
    for point in points:
        alone = _alone(point.experiment)
        settings = shared_settings(point.experiment)
        group = next((group for key, group, _ in members if key == settings and not alone), None)
        if group is not None:
            group.append(point)
        else:
            first = next((key for key, _, _ in members if key), None)
            why = alone or (_difference(settings, first, members[0][1][0].name) if first else "")
            members.append(({} if alone else settings, [point], why))
    return [Group(group, why) for _, group, why in members]


def shared_settings(experiment: Experiment) -> dict[str, Any]:
    """Return the settings, by TOML key, that decide the activations, except the hooks."""
    tables: dict[str, Any] = to_tables(experiment)
    shared: dict[str, Any] = {key: tables[key] for key in SHARED if key in tables}
    return {
        key: value
        for key, value in flatten(shared)
        if not (key.startswith("model.") and key.split(".")[1] in HOOKS)
    }


def shareable(experiment: Experiment) -> bool:
    """Whether an experiment can share activations with others."""
    return not _alone(experiment)


def _alone(experiment: Experiment) -> str:
    """Explain why an experiment cannot share activations with any other; "" if it can."""
    recorded = "recorded" in experiment.dataset.loader.component.provides
    if recorded or experiment.model is None:
        return "its dataset has activations already; there is no forward pass to share"
    loss = experiment.training.loss
    if loss != "mse":
        return f'training.loss = "{loss}" runs the model with its own reconstructions'
    return ""


def _difference(settings: Mapping[str, Any], other: Mapping[str, Any], name: str) -> str:
    """Describe the first settings in which two points differ."""
    differing = [
        key for key in {**other, **settings} if settings.get(key) != other.get(key)
    ]  # fmt: skip
    parts = [
        f"{key} is {_shown(settings, key)} and {_shown(other, key)} in {name}"
        for key in differing[:2]
    ]
    more = f", and {len(differing) - 2} more settings" if len(differing) > 2 else ""
    return "; ".join(parts) + more


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not set"
