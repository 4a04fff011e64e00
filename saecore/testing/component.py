"""The contract of every plugin, whatever its kind: record, settings, imports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import attrs

from saecore.config.messages import field_docs, to_tables
from saecore.plugins.component import Choice
from saecore.plugins.hookspecs import TAGS
from saecore.plugins.host import current_host
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure, structure_choice

HEAVY = ("torch", "transformers", "transformer_lens", "datasets", "mlflow", "wandb")
"""Packages that plugin modules may not import: they take seconds, and help needs none."""

Settings = Mapping[str, Any] | None
"""A component's table in an experiment, without its tag."""


class Nonconformance(AssertionError):  # noqa: N818 (reads as a finding, in any test runner)
    """A plugin does not keep its contract; the message says what to change."""


def fail(subject: object, finding: str, remedy: str) -> NoReturn:
    """Raise a `Nonconformance`: the plugin, the finding, the remedy."""
    raise Nonconformance(f"{subject}: {finding}\n  {remedy}")


def check_component(kind: str, name: str, settings: Settings = None) -> Choice:
    """Check the contract of all kinds; the check of each kind starts with this one.

    The settings are a frozen attrs class with a docstring under every field; unknown keys are
    refused; settings survive a round trip through a run's record; the plugin's module imports
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
    table = dict(settings or {})
    try:
        choice = structure_choice(kind, {tag: name, **table})
    except Problems as error:
        fail(
            component,
            f"the settings {table} are refused: {_lines(error)}",
            'pass the settings that a user must give, such as settings={"k": 4}; every other '
            "field needs a default that its own validator accepts",
        )
    if re.fullmatch(r"[a-z][a-z0-9_]*", name) is None:
        fail(component, f"the name is {name!r}", "use lower-case letters, digits, underscores")
    if not component.summary.strip() or "\n" in component.summary:
        fail(component, "the summary is not one line", "say in one line what it does")
    _check_fields(choice)
    _check_strictness(choice, table, tag)
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
    bare = [field.name for field in attrs.fields(type(config)) if not docs.get(field.name)]
    if bare:
        fail(
            choice.component,
            f"{cls}.{bare[0]} has no docstring, so `saecore plugins` cannot describe it",
            f'write a string under the field: """What {bare[0]} does, and in which unit."""',
        )


def _check_strictness(choice: Choice, table: dict[str, Any], tag: str) -> None:
    try:
        structure_choice(choice.kind, {tag: choice.name, **table, "no_such_setting": 1})
    except Problems:
        pass
    else:
        fail(
            choice.component,
            "an unknown setting is silently accepted",
            "declare every setting as a field of the config, and no catch-all",
        )
    tables = to_tables(choice.config)
    try:
        again = structure(json.loads(json.dumps(tables)), type(choice.config))
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
            "remove converters that change a value when they are applied twice",
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
"""Code for a fresh interpreter; its last line lists heavy packages that were imported."""


def _check_imports(choice: Choice) -> None:
    host = current_host()
    provider = host.provider(choice.kind, choice.name)
    files = [str(file.resolve()) for file in host.files] if provider.from_file else []
    code = PROBE.format(files=files, module=provider.module, heavy=HEAVY)
    path = os.pathsep.join(entry for entry in sys.path if entry)
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
        where = files[0] if files else provider.module
        fail(
            choice.component,
            f"importing {where} imports {', '.join(heavy)}, which takes seconds",
            "import it inside the function that builds, under `if TYPE_CHECKING:`, or move the "
            'class to another module and name it: build="package.module:Class"',
        )
