"""Putting SAEs into a model and taking them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from saecore.errors import ConfigError
from saecore.hooked.convention import warn_of_mismatch
from saecore.hooked.edits import Ablate, Steer, edits_of
from saecore.hooked.fronts import Front, Remove, on_forward
from saecore.hooked.points import Point, Seen
from saecore.hooked.spliced import SplicedSAE
from saecore.sae import SAE
from saecore.site import Site


def plan(
    front: Front,
    saes: Sequence[SAE],
    new_point: Callable[[str], Point],
    use_error_term: bool | None = None,
    steer: Steer | None = None,
    ablate: Ablate | None = None,
) -> list[SplicedSAE]:
    """The SAEs as they will be spliced, nothing attached yet; see `splice`."""
    sites = [Site.of(sae, front) for sae in saes]
    targets = [target for site in sites for target in site.targets]
    twice = sorted({one for one in targets if targets.count(one) > 1})
    if twice:
        raise ConfigError("splice", [f"saes: {targets.count(twice[0])} of them at {twice[0]}"])
    names = [(*site.targets, *site.hooks) for site in sites]
    edits = edits_of(saes, names, steer, ablate)
    error_term = steer is not None or ablate is not None
    if use_error_term is not None:
        error_term = use_error_term
    for sae, site in zip(saes, sites, strict=True):
        warn_of_mismatch(sae, site.hooks[0], front.model, front.name, front.convention)
    return [
        SplicedSAE(sae, site, new_point, error_term, edit)
        for sae, site, edit in zip(saes, sites, edits, strict=True)
    ]


def attach(front: Front, spliced: Sequence[SplicedSAE]) -> Remove:
    """Let SAEs work in every forward pass, until the function that is returned is called.

    Raises:
        ModelError: the model has no such hook; nothing is attached then.
    """

    def begin(tokens: Tensor, past: int) -> None:
        for one in spliced:
            one.begin(tokens, past)

    with ExitStack() as stack:
        for one in spliced:
            for hook, function in one.functions():
                stack.callback(front.attach(hook, function))
        if spliced:
            stack.callback(on_forward(forwarded(front), begin))
        return stack.pop_all().close
    raise AssertionError


def forwarded(front: Front) -> Any:
    """The module whose forward pass sees the tokens: of a bridge the model behind it."""
    return getattr(front.model, "original_model", front.model)


def read_ahead(front: Front, spliced: Sequence[SplicedSAE], run: Callable[[], object]) -> None:
    """Run the model by itself, without the SAEs, for those that need its activations first."""
    waiting = [one for one in spliced if one.reads_ahead]
    if not waiting:
        return
    found: dict[str, Tensor] = {}
    hooks = dict.fromkeys(hook for one in waiting for hook in one.site.hooks)
    was_active = [one.active for one in spliced]

    def keep(hook: str) -> Seen:
        return lambda value: found.__setitem__(hook, value)

    with ExitStack() as stack:
        for hook in hooks:
            stack.callback(front.attach(hook, keep(hook)))
        try:
            for one in spliced:
                one.active = False
            run()
        finally:
            for one, active in zip(spliced, was_active, strict=True):
                one.active = active
    for one in waiting:
        one.give({hook: found[hook] for hook in one.site.hooks})
