"""`HookedSAETransformer`: TransformerLens' bridge with SAEs in it, as SAELens' users know it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import attrs
import torch
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from saecore.config.structure import structure_choice
from saecore.errors import ConfigError
from saecore.hooked.attach import attach, plan, read_ahead
from saecore.hooked.edits import Ablate, Steer
from saecore.hooked.fronts import BridgeFront, Remove
from saecore.hooked.spliced import SplicedSAE
from saecore.language_model.names import hub_name
from saecore.plugins import Host, current_host
from saecore.reading import pick_device
from saecore.sae import SAE
from saecore.sae_config import DTYPES


class SAEPoint(HookPoint):  # type: ignore[misc]
    """A hook point of an SAE; found by name like those of the model."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @property
    def watched(self) -> bool:
        """Whether there is any function."""
        return bool(self.fwd_hooks or self.bwd_hooks)


class HookedSAETransformer(TransformerBridge):  # type: ignore[misc]
    """TransformerLens' bridge whose activations SAEs can take the place of.

    An SAE's tensors are hooks like the model's own, by the names `HOOK.hook_sae_input`,
    `hook_sae_acts_pre`, `hook_sae_acts_post`, `hook_sae_recons`, `hook_sae_error` (with an error
    term) and `hook_sae_output`, where HOOK is the hook that the SAE replaces. A cache's `HOOK` is
    what the model goes on with.
    """

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        processed: bool = False,
        *,
        device: str = "auto",
        dtype: str | torch.dtype = "float32",
        revision: str | None = None,
    ) -> Self:
        """Load a model and its tokenizer.

        Args:
            name: "tiny_lm" (embedded), a directory, or a name on the hub.
            processed: fold LayerNorm and centre weights, for SAEs that were trained so
                (TransformerLens before version 4); raw otherwise.
            device: "auto" takes cuda, mps, cpu in this order.
            dtype: precision of the weights.
            revision: branch, tag or commit on the hub.

        Raises:
            ModelError: there is no such model, or TransformerLens does not know its kind.
            ConfigError: there is no such device or precision.
        """
        host, place = current_host(), pick_device(device, "from_pretrained", "device")
        precision = DTYPES.get(str(dtype).removeprefix("torch."))
        if precision is None:
            known = ", ".join(DTYPES)
            raise ConfigError("from_pretrained", [f"dtype: expected one of {known}, got {dtype!r}"])
        name = os.fspath(name)
        directory = hub_name(name)
        if name in host.names("model") and not _takes_name(host, name):  # it is embedded
            embedded: Any = structure_choice("model", name, host).build(place, precision)
            directory = embedded.model.name_or_path
        table = {"type": "transformer_lens", "name": directory, "processed": processed}
        if revision is not None:
            table["revision"] = revision
        bridge = structure_choice("model", table, host).build(place, precision).model
        bridge.cfg.model_name = name
        return cls.from_bridge(bridge.requires_grad_(True))

    @classmethod
    def from_pretrained_no_processing(cls, name: str | os.PathLike[str], **options: Any) -> Self:
        """`from_pretrained` with `processed=False`."""
        return cls.from_pretrained(name, processed=False, **options)

    @classmethod
    def boot_transformers(cls, *args: Any, **options: Any) -> Self:
        """`TransformerBridge.boot_transformers`, with room for SAEs."""
        return cls.from_bridge(TransformerBridge.boot_transformers(*args, **options))

    @classmethod
    def from_bridge(cls, bridge: TransformerBridge) -> Self:
        """Make room for SAEs in a bridge; it is the same object afterwards."""
        bridge.__class__ = cls
        bridge.__dict__["_attached"] = {}
        made: Self = bridge
        return made

    # -- SAEs that stay --------------------------------------------------------------------

    @property
    def acts_to_saes(self) -> dict[str, SAE]:
        """The SAEs in the model, by the hooks that they replace."""
        return {one.name: one.sae for one in self._attached}

    def add_sae(
        self,
        sae: SAE,
        use_error_term: bool | None = None,
        steer: Steer | None = None,
        ablate: Ablate | None = None,
    ) -> None:
        """Put an SAE into the model, in the place of one that replaces the same hook.

        Args:
            sae: its metadata says where it works, and which tokens keep their activations
                (`exclude_special_tokens`, `seqpos_slice`).
            use_error_term: add what it does not reconstruct. Default: only with `steer` or
                `ablate`.
            steer: `{feature: value}`, held at every token.
            ablate: features to be held at 0.

        Raises:
            ModelError: the model has no such hook.
            ConfigError: the SAE names no hook, or a feature does not exist.
        """
        self._add(plan(self._front, [sae], SAEPoint, use_error_term, steer, ablate))

    def reset_saes(self, names: str | Sequence[str] | None = None) -> None:
        """Take SAEs out of the model.

        Args:
            names: hooks that they read or replace; default: all of them.

        Raises:
            ConfigError: there is no SAE at one of the names.
        """
        wanted = [names] if isinstance(names, str) else names
        if wanted is None:
            return self._set([])
        for name in wanted:
            if not any(name in _names(one) for one in self._attached):
                known = ", ".join(self.acts_to_saes) or "no hook"
                raise ConfigError("reset_saes", [f"no SAE at {name!r} (SAEs at {known})"])
        return self._set([one for one in self._attached if not _names(one) & {*wanted}])

    @contextmanager
    def saes(
        self,
        saes: SAE | Sequence[SAE] = (),
        reset_saes_end: bool = True,
        use_error_term: bool | None = None,
        steer: Steer | None = None,
        ablate: Ablate | None = None,
    ) -> Iterator[Self]:
        """Put SAEs into the model; behind the context those that were there before are there.

        Args:
            saes: SAEs, beside those that are there; one takes the place of another at its hook.
            reset_saes_end: whether to take them out in the end.
            use_error_term: as for `add_sae`, of all of them.
            steer: as for `add_sae`; with several SAEs `{hook: {feature: value}}`.
            ablate: likewise, `{hook: [feature]}`.
        """
        given = [saes] if isinstance(saes, SAE) else list(saes)
        before = list(self._attached)
        self._add(plan(self._front, given, SAEPoint, use_error_term, steer, ablate))
        try:
            yield self
        finally:
            if reset_saes_end:
                self._set(before)

    # -- SAEs for a run --------------------------------------------------------------------

    def run_with_saes(self, *args: Any, saes: SAE | Sequence[SAE] = (), **options: Any) -> Any:
        """The model's output with SAEs in it.

        Args:
            args: of the model's forward.
            saes: see `saes`, as are `reset_saes_end`, `use_error_term`, `steer` and `ablate`.
            options: these, and more arguments of forward.
        """
        return self._with_saes(self.__call__, args, saes, options)

    def run_with_cache_with_saes(
        self, *args: Any, saes: SAE | Sequence[SAE] = (), **options: Any
    ) -> Any:
        """`run_with_cache` with SAEs in the model: output, and a cache that has their tensors."""
        return self._with_saes(self.run_with_cache, args, saes, options)

    def run_with_hooks_with_saes(
        self, *args: Any, saes: SAE | Sequence[SAE] = (), **options: Any
    ) -> Any:
        """`run_with_hooks` with SAEs in the model, whose tensors can be hooked like others."""
        return self._with_saes(self.run_with_hooks, args, saes, options)

    def _with_saes(
        self, run: Callable[..., Any], args: Any, saes: Any, options: dict[str, Any]
    ) -> Any:
        keys = ("reset_saes_end", "use_error_term", "steer", "ablate")
        own = {key: options.pop(key) for key in keys if key in options}
        with self.saes(saes, **own):
            return run(*args, **options)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """The bridge's forward; SAEs that read several hooks get them from a pass before it."""

        def run() -> Any:
            return super(HookedSAETransformer, self).forward(*args, **inputs)

        with torch.no_grad():
            read_ahead(self._front, [*self._attached], run)
        return run()

    # -- places ----------------------------------------------------------------------------

    @property
    def _front(self) -> BridgeFront:
        return BridgeFront(self, self.cfg.model_name)

    def _add(self, new: Sequence[SplicedSAE]) -> None:
        """Let these SAEs work too, each in the place of one that replaces the same hook."""
        points = self.hook_dict  # a hook may have several names
        places = {id(points.get(target)) for one in new for target in one.site.targets}
        kept = [
            one
            for one in self._attached
            if places.isdisjoint(id(points[target]) for target in one.site.targets)
        ]
        self._set([*kept, *new])

    def _set(self, wanted: Sequence[SplicedSAE]) -> None:
        """Let these SAEs, and no others, work."""
        there: dict[SplicedSAE, Remove] = self._attached
        new: dict[SplicedSAE, Remove] = {}
        with ExitStack() as undo:  # the model stays as it was if a hook is unknown
            for one in wanted:
                if one not in there:
                    new[one] = attach(self._front, [one])
                    undo.callback(new[one])
            undo.pop_all()
        for one, remove in there.items():
            if one not in wanted:
                remove()
            for name in one.points:
                self._hook_registry.pop(name, None)
        self.__dict__["_attached"] = {one: there.get(one) or new[one] for one in wanted}
        self._register_points()

    def _initialize_hook_registry(self) -> None:
        super()._initialize_hook_registry()
        self._register_points()

    def _register_points(self) -> None:
        for one in self.__dict__.get("_attached", ()):
            self._hook_registry.update(one.points)


def _takes_name(host: Host, model: str) -> bool:
    """Whether a model plugin has to be told which model, instead of being one."""
    return "name" in attrs.fields_dict(host.component("model", model).config)


def _names(spliced: SplicedSAE) -> set[str]:
    return {*spliced.site.targets, *spliced.site.hooks}
