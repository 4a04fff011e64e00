"""`Component`, the record that describes a plugin, and `Choice`, a component with settings."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import attrs

from saecore.errors import PluginError, SaecoreError
from saecore.plugins.hookspecs import KINDS, MEMBERS


@attrs.frozen
class NoSettings:
    """The config of a component without settings."""


@attrs.frozen(kw_only=True)
class Component:
    """One plugin: its name, its settings, and how to build it."""

    kind: str
    """One of `KINDS`."""
    name: str
    """The name used in experiment files."""
    config: type[Any] = NoSettings
    """An attrs class; its fields, with their docstrings, are the component's settings."""
    build: Callable[..., Any] | str
    """A function that takes the config first, or `"package.module:name"` of one.

    The string is imported when the component is first built, so the module that declares the
    component need not import torch."""
    summary: str
    """One line for `saecore plugins`."""
    provides: frozenset[str] = frozenset()
    """For a dataset: "activations" if it provides them without a language model, "truth" if it
    knows the true features behind them, "recorded" if it reads a language model's activations from
    disk (it builds an `ActivationCache`)."""
    requires: str = attrs.field(
        default="model",
        validator=attrs.validators.in_(("model", "activations", "truth", "weights")),
    )
    """For an evaluator: "model", "activations" (of a model or of the dataset), "truth" or
    "weights" (of the SAE alone)."""
    owner: str = attrs.field(default="", kw_only=True, eq=False)
    """Distribution and version of the plugin; set by the host."""
    from_loaded: Callable[[Any], Any] | None = attrs.field(default=None, kw_only=True)
    """For a model: wraps a model that Python code has already loaded in a `ModelBackend`; returns
    None for objects that it does not recognize."""

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
        except Exception as error:  # third-party code may raise anything
            raise PluginError(
                f"plugin {self}: cannot import {self.build!r}: {type(error).__name__}: {error}"
            ) from error
        return target  # type: ignore[no-any-return]

    def make(self, config: Any, *args: Any) -> Any:
        """Build the object.

        Raises:
            PluginError: `build` does not accept these arguments, raises, or its result lacks a
                member that its kind requires.
        """
        builder = self.builder()
        contract = f"build must be {KINDS.get(self.kind, self.kind)}"
        try:
            inspect.signature(builder).bind(config, *args)
        except ValueError:
            pass  # a C function without a signature
        except TypeError as error:
            raise PluginError(f"plugin {self}: {contract}; {_name(builder)}: {error}") from None
        if inspect.isabstract(builder):
            missing = ", ".join(sorted(getattr(builder, "__abstractmethods__", ())))
            raise PluginError(f"plugin {self}: {_name(builder)} must implement {missing}")
        built = self._built(builder, config, *args)
        absent = object()
        for member in MEMBERS.get(self.kind, ()):
            names = member.split("|")
            if all(inspect.getattr_static(built, name, absent) is absent for name in names):
                raise PluginError(
                    f"plugin {self}: {contract}; what {_name(builder)} returned "
                    f"({type(built).__name__}) has no {' or '.join(names)}"
                )
        return built

    def _built(self, builder: Callable[..., Any], config: Any, *args: Any) -> Any:
        """Call the builder; the errors of another distribution's code name the plugin."""
        from saecore.plugins import faults

        problem = faults.problem_of_class(self.kind, self.name, builder)
        if problem is not None:
            raise PluginError(f"plugin {self}: {problem}")
        try:
            result = builder(config, *args)
        except SaecoreError:
            raise
        except Exception as error:  # third-party code may raise anything
            if self.owner.startswith("saecore "):
                raise
            raise PluginError(
                f"plugin {self}: {_name(builder)} raised {faults.describe(error, self.name)}"
            ) from error
        problem = faults.problem_of_module(self.kind, result)
        if problem is not None:
            raise PluginError(f"plugin {self}: {problem}")
        return result


def _name(builder: Callable[..., Any]) -> str:
    return f"{builder.__module__}.{getattr(builder, '__qualname__', builder)}"


@attrs.frozen
class Choice:
    """A component with its settings: the value of a configuration field."""

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
