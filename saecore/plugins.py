"""The plugin host: finds entry points, loads a plugin when it is used, says who provides what."""

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

from saecore import hookspecs
from saecore.components import KINDS, Component
from saecore.errors import PluginError, nearest

GROUP = "saecore"


@attrs.frozen(order=True)
class Provider:
    """One plugin on offer, known from its entry point (or file) without importing it."""

    kind: str
    name: str
    distribution: str
    version: str
    module: str

    @property
    def full_name(self) -> str:
        """`kind.name`, the name that `--block` takes."""
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
        block: names (`kind.name`) or distributions that shall not be used.
        files: local plugin files, registered as if an entry point named them.

    Raises:
        PluginError: a blocked name matches nothing, or a plugin file cannot be loaded.
    """

    def __init__(self, block: Sequence[str] = (), files: Sequence[Path] = ()) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._components: dict[Provider, Component] = {}
        found = _entry_points()
        for name in block:
            if not any(name in (one.full_name, one.distribution) for one in found):
                known = sorted({one.full_name for one in found})
                raise PluginError(
                    f"--block {name}: no plugin or distribution has that name"
                    f"{nearest(name, known)} (`saecore plugins` lists them)"
                )
        self._providers = [
            one for one in found if one.full_name not in block and one.distribution not in block
        ]
        self.files = tuple(Path(file) for file in files)
        for file in self.files:
            self._load_file(file)
        self._providers.sort()

    @property
    def providers(self) -> list[Provider]:
        """Every plugin on offer, sorted by kind and name; nothing is imported."""
        return list(self._providers)

    def names(self, kind: str) -> list[str]:
        """The names on offer for a kind, sorted."""
        return sorted({one.name for one in self._providers if one.kind == kind})

    def provider(self, kind: str, name: str) -> Provider:
        """Find who provides `kind.name`.

        Raises:
            PluginError: nobody does, or two distributions do.
        """
        found = [one for one in self._providers if (one.kind, one.name) == (kind, name)]
        if not found:
            names = self.names(kind)
            raise PluginError(
                f'no {kind} named "{name}"{nearest(name, names)} '
                f"(installed: {', '.join(names) or 'none'})"
            )
        if len(found) > 1:
            owners = " and ".join(f"{one.distribution} {one.version}" for one in found)
            raise PluginError(
                f"plugin {kind}.{name} is provided twice, by {owners}; {_remedy(found)}"
            )
        return found[0]

    def component(self, kind: str, name: str) -> Component:
        """Load the plugin `kind.name` and return its component.

        Raises:
            PluginError: it is missing, provided twice, fails to import or breaks its contract.
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
        except (Exception, SystemExit) as error:  # a stranger's module may raise anything
            raise PluginError(
                f"plugin {provider} failed to import: {type(error).__name__}: {error}. "
                f"Run with --block {provider.full_name} to go on without it."
            ) from error

    def _offered(self, module: ModuleType, owner: object) -> list[Component]:
        if not self._manager.is_registered(module):
            self._manager.register(module)
        hook = self._manager.hook.saecore_components
        implementations = [one for one in hook.get_hookimpls() if one.plugin is module]
        try:
            results: list[Any] = [one.function() for one in implementations]
            offered: list[Component] = [component for one in results for component in one]
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin {owner}: saecore_components() raised {type(error).__name__}: {error}"
            ) from error
        for one in offered:
            _check_component(one, owner)
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
        sys.modules[name] = module  # type hints and sources are looked up there
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
                component.kind, component.name, f"file {file.name}", f"sha256:{digest}", name
            )
            self._providers.append(provider)
            self._components[provider] = _owned(component, provider)


def _owned(component: Component, provider: Provider) -> Component:
    return attrs.evolve(component, owner=f"{provider.distribution} {provider.version}")


def _remedy(found: Sequence[Provider]) -> str:
    if any(one.from_file for one in found):
        return f"run with --block {found[0].full_name}"  # blocks entry points, never files
    others = [one.distribution for one in found if one.distribution != GROUP]
    return f"uninstall one or run with --block {others[-1]}"


def _entry_points() -> list[Provider]:
    """Read the group's entry points; a distribution seen twice on the path counts once."""
    found = set()
    for entry in importlib.metadata.entry_points(group=GROUP):
        kind, _, name = entry.name.partition(".")
        dist = entry.dist
        found.add(
            Provider(
                kind,
                name,
                dist.name if dist else "unknown",
                dist.version if dist else "?",
                entry.value,
            )
        )
    return sorted(found)


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
    # Of its own: a subclass that is not decorated inherits fields, and loses those it adds.
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
    if not isinstance(component.name, str) or not isinstance(component.summary, str):
        raise PluginError(f"plugin {owner}: name and summary of a Component must be strings")
    if not (isinstance(component.build, str) or callable(component.build)):
        raise PluginError(
            f"plugin {owner}: build of {component} must be a function or "
            f'"package.module:name", got {component.build!r}'
        )


_current: Host | None = None


def current_host() -> Host:
    """The host that Python calls without an explicit one use; made at first need."""
    global _current
    if _current is None:
        _current = Host()
    return _current


def use_host(host: Host | None) -> None:
    """Make `host` the one that `current_host` returns; None goes back to a fresh default."""
    global _current
    _current = host


def versions(providers: Iterable[Provider]) -> dict[str, str]:
    """`kind.name -> distribution version`, as recorded with every run."""
    return {one.full_name: f"{one.distribution} {one.version}" for one in providers}
