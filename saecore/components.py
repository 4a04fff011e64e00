"""A plugin is one record: `Component`. A configuration field filled by one is a `Choice`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from saecore.errors import PluginError

KINDS: dict[str, str] = {
    "activation": "(config, shape) -> Activation: selects Codes from pre-activations",
    "architecture": "(config, shape) -> SAE",
    "catalogue": "(config) -> Catalogue: names and entries of published SAEs",
    "command": "() -> click command",
    "dataset": "(config, tokenizer) -> Documents or DocumentStream, or (config, seed) -> "
    "OwnActivations where it `gives` them",
    "dead_latents": "(config) -> DeadLatents strategy",
    "evaluator": "(config) -> (sae, origin, held_out) -> Figures",
    "logger": "(config, run_dir) -> Logger",
    "model": "(config, device, dtype) -> ModelBackend",
    "monitor": "(config) -> Monitor: (view) -> warning or None",
    "normalizer": "(config) -> Normalizer strategy",
    "optimizer": "(config, parameter groups, lr) -> Optimizer",
    "release": "(config) -> ReleaseSource: recognise, list, load",
    "schedule": "(config) -> (step, total) -> float, a multiplier",
}
"""Every kind of component and what its `build` makes."""

MEMBERS: dict[str, tuple[str, ...]] = {
    "activation": ("select", "train_select", "scheduled"),
    "architecture": ("select", "training_step", "state_dict"),
    "catalogue": ("names", "entries"),
    "dataset": ("fingerprint|seek|manifest",),
    "dead_latents": ("after_tokens", "losses", "acts", "after_step"),
    "evaluator": ("__call__",),
    "logger": ("start", "scalars", "artifact", "close"),
    "model": ("name", "identity", "tokenizer", "vocab_size", "activations", "run_with"),
    "normalizer": ("tokens", "estimate", "apply", "restorer", "fold", "state_dict"),
    "optimizer": ("param_groups", "step", "zero_grad", "state_dict", "load_state_dict"),
    "release": ("recognise", "list", "load"),
    "schedule": ("__call__",),
}
"""What an object made by `build` must have; `a|b` is one of the two."""

TAGS: dict[str, str] = {"architecture": "architecture"}
"""The key that names the component in a table; `type` for every kind not listed."""


@attrs.frozen
class Component:
    """One plugin: what it is called, how it is configured, how it is built."""

    kind: str
    """One of `KINDS`."""
    name: str
    """The name used in experiment files."""
    config: type[Any]
    """An attrs class; its fields, with their docstrings, are the component's settings."""
    build: Callable[..., Any] | str
    """A function that takes the config first, or `"package.module:name"` of one.

    The string is imported when the component is first built, so that neither it nor the
    module that declares the component needs to import torch."""
    summary: str
    """One line for `saecore plugins`."""
    gives: frozenset[str] = frozenset()
    """Of a dataset: "activations" where it gives them itself and no language model is needed,
    "truth" where it knows the true features behind them, and "recorded" where they are those of a
    language model's hooks, kept on disk (it builds an `ActivationCache`)."""
    needs: str = attrs.field(
        default="model",
        validator=attrs.validators.in_(("model", "activations", "truth", "weights")),
    )
    """Of an evaluator: "model", "activations" (of a model or of the dataset), "truth", or
    "weights", which every SAE has."""
    owner: str = attrs.field(default="", kw_only=True, eq=False)
    """Distribution and version that provide it; set by the host."""
    wrap: Callable[[Any], Any] | None = attrs.field(default=None, kw_only=True)
    """Of a model: makes a `ModelBackend` of a model that Python code has loaded already; returns
    None for objects of another kind."""

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}" + (f" ({self.owner})" if self.owner else "")

    def builder(self) -> Callable[..., Any]:
        """Import and return the function behind `build`.

        Raises:
            PluginError: the import fails or the target is missing.
        """
        if not isinstance(self.build, str):
            return self.build
        module, _, name = self.build.partition(":")
        try:
            target = getattr(importlib.import_module(module), name)
        except Exception as error:  # a stranger may raise anything
            raise PluginError(
                f"plugin {self}: cannot import {self.build!r}: {type(error).__name__}: {error}"
            ) from error
        return target  # type: ignore[no-any-return]

    def make(self, config: Any, *args: Any) -> Any:
        """Build the object.

        Raises:
            PluginError: `build` does not take these arguments, or gives something else than
                its kind asks for.
        """
        builder = self.builder()
        promised = f"build must be {KINDS.get(self.kind, self.kind)}"
        try:
            inspect.signature(builder).bind(config, *args)
        except ValueError:
            pass  # written in C, without a signature
        except TypeError as error:
            raise PluginError(f"plugin {self}: {promised}; {_name(builder)}: {error}") from None
        if inspect.isabstract(builder):
            missing = ", ".join(sorted(getattr(builder, "__abstractmethods__", ())))
            raise PluginError(f"plugin {self}: {_name(builder)} must implement {missing}")
        made = builder(config, *args)
        absent = object()
        for member in MEMBERS.get(self.kind, ()):
            found = [inspect.getattr_static(made, one, absent) for one in member.split("|")]
            if all(one is absent for one in found):
                raise PluginError(
                    f"plugin {self}: {promised}; what {_name(builder)} returned "
                    f"({type(made).__name__}) has no {member.replace('|', ' or ')}"
                )
        return made


@attrs.frozen
class Choice:
    """A component together with the settings chosen for it: what a configuration field holds."""

    component: Component
    config: Any

    @property
    def kind(self) -> str:
        """The kind of the component."""
        return self.component.kind

    @property
    def name(self) -> str:
        """The name of the component."""
        return self.component.name

    def build(self, *args: Any) -> Any:
        """Build the object; see `Component.make`."""
        return self.component.make(self.config, *args)


def _name(builder: Callable[..., Any]) -> str:
    return f"{builder.__module__}.{getattr(builder, '__qualname__', builder)}"


def choice(kind: str, default: Any = attrs.NOTHING, unlike: str | None = None) -> Any:
    """Declare an attrs field of type `Choice`, filled from the registry of `kind`.

    Args:
        kind: one of `KINDS`.
        default: a name, or a table such as `{"type": "constant", "warm_up_steps": 100}`.
        unlike: names that are also of this kind are refused, and sent there.
    """

    def from_registry() -> Any:
        from saecore.config.structure import structure_choice
        from saecore.plugins import current_host

        return structure_choice(kind, default, current_host())

    factory = attrs.NOTHING if default is attrs.NOTHING else attrs.Factory(from_registry)
    return attrs.field(
        default=factory, metadata={"choice": kind, "default": default, "unlike": unlike}
    )


def choices(kind: str, default: Sequence[Any] | Callable[[Any], Sequence[Any]] = ()) -> Any:
    """Declare a field of type `tuple[Choice, ...]`: an array of tables of one kind.

    Args:
        kind: one of `KINDS`.
        default: names or tables, or a function that gives them for an object with the other
            fields as attributes (those before this one, and only those without problems).
    """

    def from_registry(self: Any) -> Any:
        from saecore.config.structure import structure_choice
        from saecore.plugins import current_host

        listed = default(self) if callable(default) else default
        return tuple(structure_choice(kind, one, current_host()) for one in listed)

    factory = attrs.Factory(from_registry, takes_self=True)
    return attrs.field(default=factory, metadata={"choices": kind, "default": default})


def inline(kind: str) -> Any:
    """Declare the field of a table that shares its table with a component's own keys.

    The table's tag names the component; keys that are not fields of the table belong to it.
    """
    return attrs.field(metadata={"inline": kind})
