"""Which points of a sweep read one stream of activations, and which run apart and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from saecore.config.experiment import Experiment
from saecore.config.explain import flatten, to_tables
from saecore.config.sweep import Point

SHARED = ("model", "dataset", "buffer")
"""Tables that points of one stream have in common."""
HOOKS = ("hook", "hooks", "target_hook", "target_hooks")
"""Settings of [model] in which points of one stream may differ."""


@attrs.frozen(eq=False)
class Group:
    """Points that are trained side by side."""

    points: Sequence[Point]
    """One, or several that share the model's forward."""
    apart: str = ""
    """Why they do not share it with the points before."""


def groups(points: Sequence[Point]) -> list[Group]:
    """Divide points into those that share [model] (hooks aside), [dataset] and [buffer].

    The order of the file is kept, between groups and in each.
    """
    found: list[tuple[dict[str, Any], list[Point], str]] = []
    for point in points:
        alone = _alone(point.experiment)
        settings = stream_settings(point.experiment)
        same = next((own for shared, own, _ in found if shared == settings and not alone), None)
        if same is not None:
            same.append(point)
        else:
            first = next((shared for shared, _, _ in found if shared), None)
            why = alone or (_difference(settings, first, found[0][1][0].name) if first else "")
            found.append(({} if alone else settings, [point], why))
    return [Group(own, why) for _, own, why in found]


def stream_settings(experiment: Experiment) -> dict[str, Any]:
    """The settings, by TOML key, that decide the stream (but for the hooks read from it)."""
    tables: dict[str, Any] = to_tables(experiment)
    shared: dict[str, Any] = {key: tables[key] for key in SHARED if key in tables}
    return {
        key: value
        for key, value in flatten(shared)
        if not (key.startswith("model.") and key.split(".")[1] in HOOKS)
    }


def shareable(experiment: Experiment) -> bool:
    """Whether an experiment can read a stream together with others."""
    return not _alone(experiment)


def _alone(experiment: Experiment) -> str:
    """Why an experiment cannot share a stream with any other."""
    recorded = "recorded" in experiment.dataset.plugin.component.gives
    if recorded or experiment.model is None:
        return "its dataset gives activations by itself; there is no forward to share"
    loss = experiment.training.loss
    if loss != "mse":
        return f'training.loss = "{loss}" runs the model with its own reconstructions'
    return ""


def _difference(settings: Mapping[str, Any], other: Mapping[str, Any], name: str) -> str:
    """The first settings in which two streams differ, in words."""
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
