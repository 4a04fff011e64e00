"""Attach SAEs to a model and detach them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from torch import Tensor

from saecore.core.sae import SAE
from saecore.errors import ConfigError
from saecore.models.hook_site import HookSite
from saecore.models.read_state import model_behind, register
from saecore.splicing.convention import warn_of_mismatch
from saecore.splicing.hook_points import AnyHookPoint, HookFn
from saecore.splicing.interventions import Ablate, Steer, interventions_of
from saecore.splicing.model_adapters import ModelAdapter, Remove, on_forward
from saecore.splicing.spliced_sae import SplicedSAE


def prepare(
    adapter: ModelAdapter,
    saes: Sequence[SAE],
    new_hook_point: Callable[[str], AnyHookPoint],
    use_error_term: bool | None = None,
    steer: Steer | None = None,
    ablate: Ablate | None = None,
) -> list[SplicedSAE]:
    """Check SAEs and interventions against each other, without attaching anything.

    Args:
        adapter: the model.
        saes: the SAEs.
        new_hook_point: creates the hook point of a name.
        use_error_term: see `splice`, as for `steer` and `ablate`.
        steer: features held at values.
        ablate: features held at 0.

    Raises:
        ConfigError: an SAE names no hook, two share one, or an intervention is invalid.
    """
    sites = [HookSite.of(sae, adapter) for sae in saes]
    targets = [target for site in sites for target in site.targets]
    shared = sorted({target for target in targets if targets.count(target) > 1})
    if shared:
        raise ConfigError(
            [f"saes: {targets.count(shared[0])} of them at {shared[0]}"], label="splice"
        )
    names = [(*site.targets, *site.hooks) for site in sites]
    interventions = interventions_of(saes, names, steer, ablate)
    error_term = steer is not None or ablate is not None
    if use_error_term is not None:
        error_term = use_error_term
    for sae, site in zip(saes, sites, strict=True):
        warn_of_mismatch(sae, site.hooks[0], adapter.model, adapter.name, adapter.convention)
    return [
        SplicedSAE(sae, site, new_hook_point, error_term, held)
        for sae, site, held in zip(saes, sites, interventions, strict=True)
    ]


def attach(adapter: ModelAdapter, spliced: Sequence[SplicedSAE]) -> Remove:
    """Run SAEs in every forward pass, until the returned function is called.

    Raises:
        ModelError: the model has no such hook; nothing stays attached.
    """

    def begin(tokens: Tensor, past: int) -> None:
        for sae in spliced:
            sae.begin(tokens, past)

    with ExitStack() as stack:
        for sae in spliced:
            for hook, function in sae.functions():
                stack.callback(adapter.attach(hook, function))
            stack.callback(register(adapter.model, sae))
        if spliced:
            stack.callback(on_forward(model_behind(adapter.model), begin))
        return stack.pop_all().close
    raise AssertionError


def read_ahead(
    adapter: ModelAdapter, spliced: Sequence[SplicedSAE], run: Callable[[], object]
) -> None:
    """Run the model without SAEs to collect the activations that some SAEs need in advance.

    Args:
        adapter: the model.
        spliced: all SAEs in the model; only those that `reads_ahead` get activations.
        run: runs the model's forward pass.
    """
    waiting = [sae for sae in spliced if sae.reads_ahead and sae.active]
    if not waiting:
        return
    activations: dict[str, Tensor] = {}
    hooks = dict.fromkeys(hook for sae in waiting for hook in sae.site.hooks)
    was_active = [sae.active for sae in spliced]

    def collect(hook: str) -> HookFn:
        # A copy: the pass goes on, and the model may overwrite its own tensor.
        return lambda value: activations.__setitem__(hook, value.clone())

    with ExitStack() as stack:
        for hook in hooks:
            stack.callback(adapter.attach(hook, collect(hook)))
        try:
            for sae in spliced:
                sae.active = False
            run()
        finally:
            for sae, active in zip(spliced, was_active, strict=True):
                sae.active = active
    for sae in waiting:
        sae.set_inputs({hook: activations[hook] for hook in sae.site.hooks})
