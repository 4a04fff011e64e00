"""What every plugin is held to, whatever its kind: record, settings, imports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import attrs

from saecore.components import TAGS, Choice
from saecore.config.explain import field_docs, to_tables
from saecore.config.structure import Problems, structure, structure_choice
from saecore.plugins import current_host

HEAVY = ("torch", "transformers", "transformer_lens", "datasets", "mlflow", "wandb")
"""Packages that a plugin's module may not import: they take seconds, and help needs none."""

Settings = Mapping[str, Any] | None
"""A component's table in an experiment, without its tag."""


class Nonconformance(AssertionError):  # noqa: N818 (reads as a finding, in any test runner)
    """A plugin does not keep its contract; the message says what to change."""


def fail(subject: object, found: str, remedy: str) -> NoReturn:
    """Raise a `Nonconformance`: who, what was found, what to change."""
    raise Nonconformance(f"{subject}: {found}\n  {remedy}")


def check_component(kind: str, name: str, settings: Settings = None) -> Choice:
    """Check what all kinds have in common; the checks of the kinds begin with it.

    The settings are a frozen attrs class with a docstring under every field; unknown keys are
    refused; a run's record gives the same settings again; importing the plugin's module imports
    nothing heavy; `build` can be imported.

    Returns:
        The component with its settings.

    Raises:
        Nonconformance: with what to change.
        PluginError: it is not installed, cannot be imported or returns wrong records.
    """
    host = current_host()
    component = host.component(kind, name)
    tag = TAGS.get(kind, "type")
    given = dict(settings or {})
    try:
        choice = structure_choice(kind, {tag: name, **given}, host)
    except Problems as error:
        fail(
            component,
            f"the settings {given} are refused: {_lines(error)}",
            'pass the settings that a user must give, such as settings={"k": 4}; every other '
            "field needs a default that its own validator accepts",
        )
    if re.fullmatch(r"[a-z][a-z0-9_]*", name) is None:
        fail(component, f"the name is {name!r}", "use lower-case letters, digits, underscores")
    if not component.summary.strip() or "\n" in component.summary:
        fail(component, "the summary is not one line", "say in one line what it does")
    _check_fields(choice)
    _check_strictness(choice, given, tag)
    _check_imports(choice)
    component.builder()
    return choice


def _lines(error: Problems) -> str:
    return "; ".join(f"{key}: {message}" for key, message in error.items)


def _check_fields(choice: Choice) -> None:
    config = choice.config
    cls = type(config).__name__
    try:
        config.__setattr__("written_by_a_check", 1)
        frozen = False
    except attrs.exceptions.FrozenInstanceError:
        frozen = True
    except AttributeError:
        frozen = False
    if not frozen:
        fail(choice.component, f"{cls} can be changed", f"decorate {cls} with @attrs.frozen")
    docs = field_docs(type(config))
    bare = [one.name for one in attrs.fields(type(config)) if not docs.get(one.name)]
    if bare:
        fail(
            choice.component,
            f"{cls}.{bare[0]} has no docstring, so `saecore plugins` has nothing to say of it",
            f'write a string under the field: """What {bare[0]} does, and in which unit."""',
        )


def _check_strictness(choice: Choice, given: dict[str, Any], tag: str) -> None:
    host = current_host()
    table = {tag: choice.name, **given, "no_such_setting": 1}
    try:
        structure_choice(choice.kind, table, host)
    except Problems:
        pass
    else:
        fail(
            choice.component,
            "an unknown setting is accepted in silence",
            "declare every setting as a field of the config, and no catch-all",
        )
    tables = to_tables(choice.config)
    try:
        again = structure(json.loads(json.dumps(tables)), type(choice.config), host)
    except (Problems, TypeError, ValueError) as error:
        reason = _lines(error) if isinstance(error, Problems) else str(error)
        fail(
            choice.component,
            f"its settings cannot be read back from a run's experiment.json: {reason}",
            "use fields of bool, int, float, str, Literal, tuples of these, or choice(kind)",
        )
    if again != choice.config:
        fail(
            choice.component,
            f"read back from experiment.json, its settings are {again}, not {choice.config}",
            "remove converters that change a value when it is given a second time",
        )


PROBE = """
import importlib, sys
from pathlib import Path
files, module = {files!r}, {module!r}
if files:
    from saecore.plugins import Host
    Host(files=[Path(one) for one in files])
else:
    importlib.import_module(module)
print("\\n" + " ".join(one for one in {heavy!r} if one in sys.modules))
"""
"""Run in a fresh interpreter; its last line lists what should not have been imported."""


def _check_imports(choice: Choice) -> None:
    host = current_host()
    provider = host.provider(choice.kind, choice.name)
    own = [str(file.resolve()) for file in host.files] if provider.from_file else []
    code = PROBE.format(files=own, module=provider.module, heavy=HEAVY)
    path = os.pathsep.join(one for one in sys.path if one)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        fail(
            choice.component,
            f"it cannot be imported by itself: {done.stderr.strip().splitlines()[-1]}",
            "let the module import what it needs",
        )
    heavy = done.stdout.splitlines()[-1].split()
    if heavy:
        where = own[0] if own else provider.module
        fail(
            choice.component,
            f"importing {where} imports {', '.join(heavy)}, which takes seconds",
            "import it inside the function that builds, under `if TYPE_CHECKING:`, or move the "
            'class to another module and name it: build="package.module:Class"',
        )
