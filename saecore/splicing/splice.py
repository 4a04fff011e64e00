"""`splice`: put SAEs into a model temporarily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from saecore.core.sae import SAE
from saecore.errors import ConfigError, ModelError, nearest
from saecore.models.copies import Snapshots, isolated
from saecore.splicing.attach import attach, prepare, read_ahead
from saecore.splicing.hook_points import HookFn, HookPoint
from saecore.splicing.interventions import Ablate, Steer
from saecore.splicing.model_adapters import ModelAdapter, Remove, adapter_of
from saecore.splicing.spliced_sae import SplicedSAE


def splice(
    model: Any,
    saes: Sequence[SAE] | SAE,
    *,
    use_error_term: bool | None = None,
    steer: Steer | None = None,
    ablate: Ablate | None = None,
) -> Spliced:
    """Put SAEs into a language model, so that their reconstructions replace its activations.

        with saecore.splice(model, [sae]) as spliced:
            logits, cache = spliced.run_with_cache(tokens)
            model.generate(tokens)  # the model's own calls use the SAEs, too

    Args:
        model: a transformers model, a TransformerLens bridge or a `ModelBackend` of one. It is not
            modified: after the context it runs as before.
        saes: SAEs whose metadata names their hooks; at most one SAE per hook. A transcoder reads
            one hook and replaces another.
        use_error_term: add the reconstruction error back, so that the model's output changes only
            if features change. Default: only with `steer` or `ablate`.
        steer: `{feature: value}`: hold features at values at every token that the SAE reads. With
            several SAEs `{hook: {feature: value}}`.
        ablate: hold features at 0: `[feature]` or `{hook: [feature]}`.

    Raises:
        ModelError: the type of the model is unknown, or it has no such hook.
        ConfigError: an SAE names no hook, two share one, or a feature does not exist.
    """
    adapter = adapter_of(model)
    sequence = [saes] if isinstance(saes, SAE) else list(saes)
    return Spliced(
        adapter,
        prepare(adapter, sequence, lambda _: HookPoint(), use_error_term, steer, ablate),
    )


class Spliced:
    """A model with SAEs in it, created by `splice`.

    Inside the context, the model's own calls use the SAEs too. `run` and `run_with_cache` work
    inside and outside of it.

    Args:
        adapter: the model.
        saes: the SAEs, with their hooks and hook points.
    """

    def __init__(self, adapter: ModelAdapter, saes: Sequence[SplicedSAE]) -> None:
        self._adapter, self._saes = adapter, tuple(saes)
        self._remove: Remove | None = None
        self._points = {name: point for sae in saes for name, point in sae.points.items()}
        attach(adapter, self._saes)()  # report unknown hooks now

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all hook points, the keys of caches: `HOOK.hook_sae_input`, `…acts_pre`,
        `…acts_post`, `…recons`, `…error` (with an error term) and `…output`.
        """
        return tuple(self._points)

    def __enter__(self) -> Self:
        if self._remove is not None:
            raise ConfigError(["the SAEs are already in the model"], label="splice")
        self._remove = attach(self._adapter, self._saes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._remove is not None:
            self._remove()
            self._remove = None

    def run(
        self, tokens: Tensor, hooks: Mapping[str, HookFn] | None = None, **inputs: Any
    ) -> Tensor:
        """Logits `[B, T, vocab]` for `tokens [B, T]`.

        Args:
            tokens: token ids.
            hooks: functions to call with a tensor, by hook point (see `names`) or by hook of the
                model; a returned tensor replaces it. Functions may keep or overwrite tensors.
            inputs: further arguments of the model's forward, such as attention_mask.

        Raises:
            ModelError: a name is unknown, or an SAE does not fit the model's activations.
        """
        with self._attached(), self._hooked(hooks or {}):
            read_ahead(self._adapter, self._saes, lambda: self._adapter.logits(tokens, **inputs))
            return self._adapter.logits(tokens, **inputs)

    def run_with_cache(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        hooks: Mapping[str, HookFn] | None = None,
        **inputs: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and the tensors at `names` after `hooks`; both are differentiable.

        A tensor that the model overwrites in place after the hook is a copy: it is
        differentiable, but the logits have no gradient with respect to it.

        Args:
            tokens: token ids `[B, T]`.
            names: hook points (see `names`) or hooks of the model, which hold the activation
                after the SAE; default: all hook points. Fewer are faster.
            hooks: as for `run`.
            inputs: as for `run`.
        """
        cache = Snapshots()
        cached = {
            # Nothing overwrites an SAE's own tensors: the model gets a copy.
            name: partial(cache.store_uncopied if name in self._points else cache.store, name)
            for name in (self.names if names is None else names)
        }
        with self._attached(), self._hooked(hooks or {}):
            read_ahead(self._adapter, self._saes, lambda: self._adapter.logits(tokens, **inputs))
            with self._hooked(cached, at_model=lambda function: function):
                logits = self._adapter.logits(tokens, **inputs)
        return logits, cache.tensors()

    @contextmanager
    def _attached(self) -> Iterator[None]:
        if self._remove is not None:
            yield
            return
        with self:
            yield

    @contextmanager
    def _hooked(
        self,
        functions: Mapping[str, HookFn],
        at_model: Callable[[HookFn], HookFn] = isolated,
    ) -> Iterator[None]:
        """Attach functions to hook points of the SAEs and, through `at_model`, of the model."""
        with ExitStack() as stack:
            for name, function in functions.items():
                point = self._points.get(name)
                if isinstance(point, HookPoint):
                    point.functions.append(function)
                    stack.callback(point.functions.remove, function)
                elif ".hook_sae_" in name:
                    raise ModelError(
                        f"hook: no spliced SAE has {name!r}{nearest(name, self.names)} "
                        f"(known: {', '.join(self.names)})"
                    )
                else:
                    stack.callback(self._adapter.attach(name, at_model(function)))
            yield
