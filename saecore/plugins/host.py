"""The plugin host: find entry points, load plugins on first use, tell who provides what."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import attrs
import pluggy

from saecore.errors import PluginError, nearest
from saecore.plugins import faults, hookspecs
from saecore.plugins.component import Component
from saecore.plugins.hookspecs import KINDS

GROUP = "saecore"


@attrs.frozen(order=True, kw_only=True)
class Provider:
    """One available plugin, known from its entry point (or file) without importing it."""

    kind: str
    name: str
    distribution: str
    version: str
    module: str

    @property
    def full_name(self) -> str:
        """`kind.name`, as `--block` expects it."""
        return f"{self.kind}.{self.name}"

    @property
    def from_file(self) -> bool:
        """Whether it comes from `--plugin FILE`."""
        return self.version.startswith("sha256:")

    def __str__(self) -> str:
        return f"{self.full_name} ({self.distribution} {self.version})"


class Host:
    """The plugins of one process.

    Args:
        block: names (`kind.name`) or distributions to exclude.
        files: local plugin files, registered as if an entry point named them.
        entry_points: the plugins to choose from; default: the installed ones.

    Raises:
        PluginError: a blocked name matches nothing, or a plugin file cannot be loaded.
    """

    def __init__(
        self,
        block: Sequence[str] = (),
        files: Sequence[Path] = (),
        *,
        entry_points: Iterable[Provider] | None = None,
    ) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._components: dict[Provider, Component] = {}
        installed = sorted(installed_plugins() if entry_points is None else entry_points)
        for name in block:
            if not any(name in (plugin.full_name, plugin.distribution) for plugin in installed):
                known = sorted({plugin.full_name for plugin in installed})
                raise PluginError(
                    f"--block {name}: no plugin or distribution has that name"
                    f"{nearest(name, known)} (`saecore plugins` lists them)"
                )
        self._providers = [
            plugin
            for plugin in installed
            if plugin.full_name not in block and plugin.distribution not in block
        ]
        self.files = tuple(Path(file) for file in files)
        for file in self.files:
            self._load_file(file)
        self._providers.sort()

    @property
    def providers(self) -> list[Provider]:
        """Every available plugin, sorted by kind and name; nothing is imported."""
        return list(self._providers)

    def names(self, kind: str) -> list[str]:
        """The available names of a kind, sorted."""
        return sorted({plugin.name for plugin in self._providers if plugin.kind == kind})

    def provider(self, kind: str, name: str) -> Provider:
        """Find the provider of `kind.name`.

        Raises:
            PluginError: there is none, or more than one.
        """
        providers = [
            plugin for plugin in self._providers if (plugin.kind, plugin.name) == (kind, name)
        ]
        if not providers:
            names = self.names(kind)
            raise PluginError(
                f'no {kind} named "{name}"{nearest(name, names)} '
                f"(installed: {', '.join(names) or 'none'})"
            )
        if len(providers) > 1:
            owners = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in providers)
            raise PluginError(
                f"plugin {kind}.{name} is provided twice, by {owners}; {_remedy(providers)}"
            )
        return providers[0]

    def component(self, kind: str, name: str) -> Component:
        """Load the plugin `kind.name` and return its component.

        Raises:
            PluginError: it is missing, provided twice, cannot be imported or breaks its contract.
        """
        provider = self.provider(kind, name)
        if kind not in KINDS:
            raise PluginError(
                f"plugin {provider}: its entry point must be named kind.name"
                f"{nearest(kind, list(KINDS))} (kinds: {', '.join(KINDS)})"
            )
        if provider not in self._components:
            module = self._import(provider)
            for component in self._offered(module, provider):
                if (component.kind, component.name) == (kind, name):
                    self._components[provider] = _owned(component, provider)
                    break
            else:
                raise PluginError(
                    f"plugin {provider}: {provider.module}.saecore_components() returned no "
                    f"{kind} named {name!r}, which its entry point promises"
                )
        return self._components[provider]

    def _import(self, provider: Provider) -> ModuleType:
        try:
            return importlib.import_module(provider.module)
        except (Exception, SystemExit) as error:  # third-party code may raise anything
            raise PluginError(
                f"plugin {provider} failed to import: {type(error).__name__}: {error}. "
                f"Run with --block {provider.full_name} to continue without it."
            ) from error

    def _offered(self, module: ModuleType, owner: object) -> list[Component]:
        if not self._manager.is_registered(module):
            self._manager.register(module)
        hook = self._manager.hook.saecore_components
        implementations = [impl for impl in hook.get_hookimpls() if impl.plugin is module]
        try:
            results: list[Any] = [impl.function() for impl in implementations]
            offered: list[Component] = [component for result in results for component in result]
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin {owner}: saecore_components() raised {type(error).__name__}: {error}"
            ) from error
        for component in offered:
            _check_component(component, owner)
        return offered

    def _load_file(self, file: Path) -> None:
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        except OSError as error:
            raise PluginError(f"--plugin {file}: cannot be read: {error.strerror}") from error
        name = f"saecore_plugin_file_{file.stem}_{digest}"
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise PluginError(f"--plugin {file}: not a Python file (expected a name in .py)")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # type hints and sources are resolved through it
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise PluginError(
                f"--plugin {file}: failed to import: {type(error).__name__}: {error}"
            ) from error
        offered = self._offered(module, f"file {file}")
        if not offered:
            raise PluginError(f"--plugin {file}: it has no saecore_components() hook")
        for component in offered:
            provider = Provider(
                kind=component.kind,
                name=component.name,
                distribution=f"file {file.name}",
                version=f"sha256:{digest}",
                module=name,
            )
            self._providers.append(provider)
            self._components[provider] = _owned(component, provider)


def _owned(component: Component, provider: Provider) -> Component:
    return attrs.evolve(component, owner=f"{provider.distribution} {provider.version}")


def _remedy(providers: Sequence[Provider]) -> str:
    if any(plugin.from_file for plugin in providers):
        return f"run with --block {providers[0].full_name}"  # blocks entry points, never files
    others = [plugin.distribution for plugin in providers if plugin.distribution != GROUP]
    return f"uninstall one or run with --block {others[-1]}"


def installed_plugins() -> list[Provider]:
    """Read the group's entry points; a distribution that is on the path twice counts once."""
    providers = set()
    for entry in importlib.metadata.entry_points(group=GROUP):
        kind, _, name = entry.name.partition(".")
        dist = entry.dist
        providers.add(
            Provider(
                kind=kind,
                name=name,
                distribution=dist.name if dist else "unknown",
                version=dist.version if dist else "?",
                module=entry.value,
            )
        )
    return sorted(providers)


def _check_component(component: object, owner: object) -> None:
    if not isinstance(component, Component):
        raise PluginError(
            f"plugin {owner}: saecore_components() must return Component records, "
            f"got {type(component).__name__}"
        )
    if component.kind not in KINDS:
        raise PluginError(
            f"plugin {owner}: unknown kind {component.kind!r}"
            f"{nearest(component.kind, list(KINDS))} (kinds: {', '.join(KINDS)})"
        )
    # In its own __dict__: an undecorated subclass inherits fields but loses those that it adds.
    if "__attrs_attrs__" not in getattr(component.config, "__dict__", {}):
        raise PluginError(
            f"plugin {owner}: config of {component.kind}.{component.name} must be an attrs class, "
            f"got {component.config!r}; decorate it with @attrs.frozen"
        )
    try:
        get_type_hints(component.config)
    except Exception as error:
        raise PluginError(
            f"plugin {owner}: the types of {component.config.__name__}'s fields cannot be "
            f"resolved: {error}; import what they name outside TYPE_CHECKING"
        ) from error
    if problem := faults.problem_of_defaults(component.config):
        raise PluginError(f"plugin {owner}: {component.kind}.{component.name}: {problem}")
    if not isinstance(component.name, str) or not isinstance(component.summary, str):
        raise PluginError(f"plugin {owner}: name and summary of a Component must be strings")
    if not (isinstance(component.build, str) or callable(component.build)):
        raise PluginError(
            f"plugin {owner}: build of {component} must be a function or "
            f'"package.module:name", got {component.build!r}'
        )


_current: Host | None = None


def current_host() -> Host:
    """The host in use: that of `use_host`, else a default created on first use."""
    global _current
    if _current is None:
        _current = Host()
    return _current


class use_host:  # noqa: N801 (called like a function)
    """Make `current_host` return `host`; None switches to a fresh default.

    As a context manager (`with use_host(host): …`) it restores the previous host at the end.
    """

    def __init__(self, host: Host | None) -> None:
        global _current
        self._before, _current = _current, host

    def __enter__(self) -> None:
        """The host is in use since the call."""

    def __exit__(self, *exception: object) -> None:
        """Restore the previous host."""
        global _current
        _current = self._before


def versions(providers: Iterable[Provider]) -> dict[str, str]:
    """`kind.name -> distribution version`, as recorded with every run."""
    return {plugin.full_name: f"{plugin.distribution} {plugin.version}" for plugin in providers}
