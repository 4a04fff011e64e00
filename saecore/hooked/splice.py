"""`splice`: SAEs in a model for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from saecore.errors import ConfigError, ModelError, nearest
from saecore.hooked.attach import attach, plan, read_ahead
from saecore.hooked.edits import Ablate, Steer
from saecore.hooked.fronts import Front, Remove, front_of
from saecore.hooked.points import Seen, Tap
from saecore.hooked.spliced import SplicedSAE
from saecore.sae import SAE


def splice(
    model: Any,
    saes: Sequence[SAE] | SAE,
    *,
    use_error_term: bool | None = None,
    steer: Steer | None = None,
    ablate: Ablate | None = None,
) -> Spliced:
    """Put SAEs into a language model: their reconstructions take the place of its activations.

        with saecore.splice(model, [sae]) as spliced:
            logits, cache = spliced.run_with_cache(tokens)
            model.generate(tokens)  # the model itself runs with the SAEs, too

    Args:
        model: a transformers model, a TransformerLens bridge or a `ModelBackend` of one. It stays
            as it is; behind the context it runs as before.
        saes: SAEs whose metadata says where they work; at most one for each hook. A transcoder
            reads at one hook and replaces another.
        use_error_term: add to each reconstruction what it lacks, so that the model runs as without
            SAEs unless features are changed. Default: only with `steer` or `ablate`.
        steer: `{feature: value}`, held at every token that the SAE reads; with several SAEs
            `{hook: {feature: value}}`.
        ablate: features to be held at 0, `[feature]` or `{hook: [feature]}`.

    Raises:
        ModelError: the model is of no known kind, or has no such hook.
        ConfigError: an SAE names no hook, two share one, or a feature does not exist.
    """
    front = front_of(model)
    given = [saes] if isinstance(saes, SAE) else list(saes)
    return Spliced(front, plan(front, given, lambda _: Tap(), use_error_term, steer, ablate))


class Spliced:
    """A model with SAEs in it; `splice` makes it.

    As a context it leaves the SAEs in the model, so that the model's own calls run with them;
    `run` and `run_with_cache` work in and outside of the context.

    Args:
        front: the model.
        saes: the SAEs, each with its hooks and points.
    """

    def __init__(self, front: Front, saes: Sequence[SplicedSAE]) -> None:
        self._front, self._saes = front, tuple(saes)
        self._remove: Remove | None = None
        self._points = {name: point for one in saes for name, point in one.points.items()}
        attach(front, self._saes)()  # so that an unknown hook is reported now

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the points of all SAEs, which are the keys of caches: `HOOK.hook_sae_input`,
        `…acts_pre`, `…acts_post`, `…recons`, `…error` (with an error term) and `…output`.
        """
        return tuple(self._points)

    def __enter__(self) -> Self:
        if self._remove is not None:
            raise ConfigError("splice", ["the SAEs are in the model already"])
        self._remove = attach(self._front, self._saes)
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

    def run(self, tokens: Tensor, hooks: Mapping[str, Seen] | None = None, **inputs: Any) -> Tensor:
        """Logits `[B, T, vocab]` for `tokens [B, T]`.

        Args:
            tokens: token ids.
            hooks: functions to be called with a tensor, by the names of `names` or of hooks of the
                model; what they return, if anything, takes its place.
            inputs: more arguments of the model's forward, such as attention_mask.

        Raises:
            ModelError: a name is neither, or an SAE does not fit the model's activations.
        """
        with self._attached(), self._seen(hooks or {}):
            read_ahead(self._front, self._saes, lambda: self._front.logits(tokens, **inputs))
            return self._front.logits(tokens, **inputs)

    def run_with_cache(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        hooks: Mapping[str, Seen] | None = None,
        **inputs: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and the tensors at `names` after `hooks`; gradients can be taken through them.

        Args:
            tokens: token ids `[B, T]`.
            names: of `self.names`, or hooks of the model (what it goes on with, after the SAE at
                that hook); default: all of `self.names`. Fewer are faster.
            hooks: as for `run`.
            inputs: as for `run`.
        """
        cache: dict[str, Tensor] = {}

        def keep(name: str) -> Seen:
            return lambda value: cache.__setitem__(name, value)

        with self._attached(), self._seen(hooks or {}):
            read_ahead(self._front, self._saes, lambda: self._front.logits(tokens, **inputs))
            with self._seen(
                {name: keep(name) for name in (self.names if names is None else names)}
            ):
                return self._front.logits(tokens, **inputs), cache

    @contextmanager
    def _attached(self) -> Iterator[None]:
        if self._remove is not None:
            yield
            return
        with self:
            yield

    @contextmanager
    def _seen(self, functions: Mapping[str, Seen]) -> Iterator[None]:
        """Functions at points of the SAEs and hooks of the model."""
        with ExitStack() as stack:
            for name, function in functions.items():
                point = self._points.get(name)
                if isinstance(point, Tap):
                    point.functions.append(function)
                    stack.callback(point.functions.remove, function)
                elif ".hook_sae_" in name:
                    raise ModelError(
                        f"hook: no spliced SAE has {name!r}{nearest(name, self.names)} "
                        f"(there are {', '.join(self.names)})"
                    )
                else:
                    stack.callback(self._front.attach(name, function))
            yield
