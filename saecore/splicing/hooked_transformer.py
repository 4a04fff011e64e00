"""`HookedSAETransformer`: TransformerLens' bridge with SAEs in it, with the API of SAELens."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import attrs
import torch
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from saecore.config.from_metadata import hub_name
from saecore.core.sae import SAE
from saecore.core.sae_config import DTYPES
from saecore.errors import ConfigError, labeled_errors
from saecore.models.device import pick_device
from saecore.plugins.host import current_host
from saecore.plugins.structure import structure_choice
from saecore.splicing.attach import attach, prepare, read_ahead
from saecore.splicing.cached_copies import CopyingCaches
from saecore.splicing.interventions import Ablate, Steer
from saecore.splicing.model_adapters import BridgeAdapter, Remove
from saecore.splicing.spliced_sae import SplicedSAE


class SAEHookPoint(HookPoint):  # type: ignore[misc]
    """A hook point of an SAE, registered by name like those of the model."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @property
    def watched(self) -> bool:
        """Whether any function is attached."""
        return bool(self.fwd_hooks or self.bwd_hooks)


class HookedSAETransformer(CopyingCaches):
    """TransformerLens' bridge with SAEs that replace its activations.

    The tensors of an SAE are hooks like the model's own: `HOOK.hook_sae_input`,
    `hook_sae_acts_pre`, `hook_sae_acts_post`, `hook_sae_recons`, `hook_sae_error` (with an error
    term) and `hook_sae_output`, where HOOK is the hook that the SAE replaces. In a cache, `HOOK`
    is the activation after the SAE. Caches hold copies: the model does not overwrite them.
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
            name: "tiny_lm" (built in), a directory, or a name on the hub.
            processed: fold LayerNorm and center weights, for SAEs trained on such a model
                (TransformerLens before version 4).
            device: a torch device, or "auto" for the first of cuda, mps, cpu.
            dtype: dtype of the weights.
            revision: branch, tag or commit on the hub.

        Raises:
            ModelError: there is no such model, or TransformerLens does not support it.
            ConfigError: there is no such device or dtype.
        """
        host = current_host()
        with labeled_errors("from_pretrained"):
            torch_device = pick_device(device, "device")
        precision = DTYPES.get(str(dtype).removeprefix("torch."))
        if precision is None:
            known = ", ".join(DTYPES)
            raise ConfigError(
                [f"dtype: expected one of {known}, got {dtype!r}"], label="from_pretrained"
            )
        name = os.fspath(name)
        directory = hub_name(name)
        if name in host.names("model") and not _takes_name(name):
            built_in: Any = structure_choice("model", name).build(torch_device, precision)
            directory = built_in.model.name_or_path
        table = {"type": "transformer_lens", "name": directory, "processed": processed}
        if revision is not None:
            table["revision"] = revision
        bridge = structure_choice("model", table).build(torch_device, precision).model
        bridge.cfg.model_name = name
        return cls.from_bridge(bridge.requires_grad_(True))

    @classmethod
    def from_pretrained_no_processing(cls, name: str | os.PathLike[str], **options: Any) -> Self:
        """`from_pretrained` with `processed=False`."""
        return cls.from_pretrained(name, processed=False, **options)

    @classmethod
    def boot_transformers(cls, *args: Any, **options: Any) -> Self:
        """`TransformerBridge.boot_transformers`, as a `HookedSAETransformer`."""
        return cls.from_bridge(TransformerBridge.boot_transformers(*args, **options))

    @classmethod
    def from_bridge(cls, bridge: TransformerBridge) -> Self:
        """Turn a bridge into a `HookedSAETransformer`, in place."""
        bridge.__class__ = cls
        bridge.__dict__["_attached"] = {}
        hooked: Self = bridge
        return hooked

    # -- SAEs that stay --------------------------------------------------------------------

    @property
    def acts_to_saes(self) -> dict[str, SAE]:
        """The SAEs in the model, by the hooks that they replace."""
        return {spliced.name: spliced.sae for spliced in self._attached}

    def add_sae(
        self,
        sae: SAE,
        use_error_term: bool | None = None,
        steer: Steer | None = None,
        ablate: Ablate | None = None,
    ) -> None:
        """Put an SAE into the model; it takes over from an SAE that replaces the same hook.

        Args:
            sae: its metadata names its hooks, and the tokens that keep their activations
                (`exclude_special_tokens`, `seqpos_slice`).
            use_error_term: add the reconstruction error. Default: only with `steer` or `ablate`.
            steer: `{feature: value}`: hold features at values at every token.
            ablate: features to hold at 0.

        Raises:
            ModelError: the model has no such hook.
            ConfigError: the SAE names no hook, or a feature does not exist.
        """
        self._add(prepare(self._adapter, [sae], SAEHookPoint, use_error_term, steer, ablate))

    def reset_saes(self, names: str | Sequence[str] | None = None) -> None:
        """Remove SAEs from the model.

        Args:
            names: hooks that the SAEs read or replace; default: remove all.

        Raises:
            ConfigError: no SAE reads or replaces one of the hooks.
        """
        if names is None:
            return self._set([])
        hooks = [names] if isinstance(names, str) else names
        for name in hooks:
            if not any(name in _hooks(spliced) for spliced in self._attached):
                known = ", ".join(self.acts_to_saes) or "no hook"
                raise ConfigError([f"no SAE at {name!r} (SAEs at {known})"], label="reset_saes")
        return self._set([spliced for spliced in self._attached if not _hooks(spliced) & {*hooks}])

    @contextmanager
    def saes(
        self,
        saes: SAE | Sequence[SAE] = (),
        reset_saes_end: bool = True,
        use_error_term: bool | None = None,
        steer: Steer | None = None,
        ablate: Ablate | None = None,
    ) -> Iterator[Self]:
        """Put SAEs into the model; after the context the previous SAEs are back.

        Args:
            saes: SAEs to add; each takes over from an SAE that replaces the same hook.
            reset_saes_end: whether to restore the previous SAEs at the end.
            use_error_term: as for `add_sae`, for all SAEs.
            steer: as for `add_sae`; with several SAEs `{hook: {feature: value}}`.
            ablate: as for `add_sae`; with several SAEs `{hook: [feature]}`.
        """
        sequence = [saes] if isinstance(saes, SAE) else list(saes)
        before = list(self._attached)
        self._add(prepare(self._adapter, sequence, SAEHookPoint, use_error_term, steer, ablate))
        try:
            yield self
        finally:
            if reset_saes_end:
                self._set(before)

    # -- SAEs for a run --------------------------------------------------------------------

    def run_with_saes(self, *args: Any, saes: SAE | Sequence[SAE] = (), **options: Any) -> Any:
        """The model's output with SAEs in it.

        Args:
            args: arguments of the model's forward.
            saes: see the method `saes`.
            options: `reset_saes_end`, `use_error_term`, `steer` and `ablate` of `saes`, and further
                arguments of forward.
        """
        return self._with_saes(self.__call__, args, saes, options)

    def run_with_cache_with_saes(
        self, *args: Any, saes: SAE | Sequence[SAE] = (), **options: Any
    ) -> Any:
        """`run_with_cache` with SAEs in the model; the cache includes their tensors."""
        return self._with_saes(self.run_with_cache, args, saes, options)

    def run_with_hooks_with_saes(
        self, *args: Any, saes: SAE | Sequence[SAE] = (), **options: Any
    ) -> Any:
        """`run_with_hooks` with SAEs in the model; their tensors can be hooked, too."""
        return self._with_saes(self.run_with_hooks, args, saes, options)

    def _with_saes(
        self, run: Callable[..., Any], args: Any, saes: Any, options: dict[str, Any]
    ) -> Any:
        keys = ("reset_saes_end", "use_error_term", "steer", "ablate")
        sae_options = {key: options.pop(key) for key in keys if key in options}
        with self.saes(saes, **sae_options):
            return run(*args, **options)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """The bridge's forward; SAEs that read several hooks get them from an extra pass."""

        def run() -> Any:
            return super(HookedSAETransformer, self).forward(*args, **inputs)

        with torch.no_grad():
            read_ahead(self._adapter, [*self._attached], run)
        return run()

    # -- internals -------------------------------------------------------------------------

    @property
    def _adapter(self) -> BridgeAdapter:
        return BridgeAdapter(self, self.cfg.model_name)

    def _add(self, new: Sequence[SplicedSAE]) -> None:
        """Attach SAEs, and detach those that replace the same hooks."""
        points = self.hook_dict  # compare hook points: a hook may have several names
        replaced = {id(points.get(target)) for spliced in new for target in spliced.site.targets}
        others = [
            spliced
            for spliced in self._attached
            if replaced.isdisjoint(id(points[target]) for target in spliced.site.targets)
        ]
        self._set([*others, *new])

    def _set(self, saes: Sequence[SplicedSAE]) -> None:
        """Attach these SAEs, and detach all others."""
        before: dict[SplicedSAE, Remove] = self._attached
        after: dict[SplicedSAE, Remove] = {}
        with ExitStack() as undo:  # the model stays unchanged if a hook is unknown
            for spliced in saes:
                if spliced in before:
                    after[spliced] = before[spliced]
                else:
                    after[spliced] = attach(self._adapter, [spliced])
                    undo.callback(after[spliced])
            undo.pop_all()
        for spliced, remove in before.items():
            if spliced not in after:
                remove()
            for name in spliced.points:
                self._hook_registry.pop(name, None)
        self.__dict__["_attached"] = after
        self._register_points()

    def _initialize_hook_registry(self) -> None:
        super()._initialize_hook_registry()
        self._register_points()

    def _register_points(self) -> None:
        for spliced in self.__dict__.get("_attached", ()):
            self._hook_registry.update(spliced.points)


def _takes_name(model: str) -> bool:
    """Whether a model plugin needs the name of a model, unlike one with a built-in model."""
    return "name" in attrs.fields_dict(current_host().component("model", model).config)


def _hooks(spliced: SplicedSAE) -> set[str]:
    """The hooks that an SAE reads or replaces."""
    return {*spliced.site.targets, *spliced.site.hooks}
