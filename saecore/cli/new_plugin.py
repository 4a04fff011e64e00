"""`saecore new-plugin NAME --kind KIND`."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

import click

from saecore.errors import PluginError, nearest
from saecore.plugins.hookspecs import KINDS
from saecore.plugins.host import current_host
from saecore.storage.files import storage_errors

TEMPLATES = Path(__file__).parent / "templates"
OFFERED = ("architecture", "activation", "dataset", "logger", "evaluator", "release")
"""Kinds with a template, in the directory of that name."""

LAST = {"release": "python -m $package.sample sample\n  saecore convert sample out --to saelens"}
"""The last command to type, by kind; `TRAIN` for the others."""

TRAIN = "saecore run experiment.toml"
"""The last command to type, for kinds that take part in training."""


@click.command("new-plugin")
@click.argument("name")
@click.option("--kind", required=True, metavar="KIND", help=f"One of {', '.join(OFFERED)}.")
def command(name: str, kind: str) -> None:
    """Write a package with a plugin called NAME to ./saecore-NAME.

    The package works as written: code to change, a test with the conformance kit, and an experiment
    (or, for a release format, a sample).
    """
    if kind not in OFFERED:
        why = "there is no template for this kind" if kind in KINDS else "no such kind"
        raise PluginError(
            f"--kind {kind}: {why}{nearest(kind, OFFERED)} (expected one of {', '.join(OFFERED)})"
        )
    _check_name(name, kind)
    directory = Path(f"saecore-{name.replace('_', '-')}")
    if directory.exists():
        raise PluginError(f"{directory}: already exists; choose another name or remove it")
    words = {
        "name": name,
        "Name": "".join(part.capitalize() for part in name.split("_")),
        "kind": kind,
        "package": f"saecore_{name}",
        "distribution": directory.name,
    }
    sources = [*TEMPLATES.glob("*.tmpl"), *(TEMPLATES / kind).glob("*.tmpl")]
    files = {_path(file.name.removesuffix(".tmpl"), words["package"]): file for file in sources}
    for path, source in sorted(files.items()):
        target = directory / path
        with storage_errors(target, setting="the current directory"):
            target.parent.mkdir(parents=True, exist_ok=True)
            text = Template(source.read_text(encoding="utf-8")).substitute(words)
            target.write_text(text, encoding="utf-8")
        click.echo(f"wrote    {target}")
    last = Template(LAST.get(kind, TRAIN)).substitute(words)
    goal = "a converted SAE" if kind in LAST else "a trained SAE"
    click.echo(
        f"next, up to {goal}:\n  cd {directory}\n  pip install -e '.[test]'\n  pytest\n  {last}"
    )


def _path(file: str, package: str) -> Path:
    """Place code in the package, tests in `tests`, and everything else at the top."""
    if file.startswith("test_"):
        return Path("tests") / f"test_{package}.py"
    return Path(package) / file if file.endswith(".py") else Path(file)


def _check_name(name: str, kind: str) -> None:
    if re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) is None or keyword.iskeyword(name):
        raise PluginError(
            f"{name!r}: expected a name of up to 40 lower-case letters, digits and underscores "
            "that begins with a letter, such as sparse_sum"
        )
    if name in current_host().names(kind):
        owner = ", ".join(
            f"{provider.distribution} {provider.version}"
            for provider in current_host().providers
            if (provider.kind, provider.name) == (kind, name)
        )
        raise PluginError(f"{kind}.{name} already exists, in {owner}; choose another name")
    if importlib.util.find_spec(f"saecore_{name}") is not None:
        raise PluginError(f"a package saecore_{name} is already installed; choose another name")
