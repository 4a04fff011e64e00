"""Write docs/reference and the index docs/README.md from the code; `--check` only compares.

Everything in them stands in the code already: docstrings under the fields of configurations,
docstrings of hooks, summaries of components, click's help. Only what saecore itself provides is
described, whatever else is installed.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import click

from saecore.cli import COMMANDS, cli
from saecore.config.experiment import Experiment
from saecore.config.messages import field_docs
from saecore.plugins import hookspecs
from saecore.plugins.component import Choice
from saecore.plugins.hookspecs import KINDS, TAGS
from saecore.plugins.host import Host, use_host
from saecore.plugins.problems import show

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py; change the docstrings in the code instead. -->\n\n"
FORMATS = (
    "Formats of published SAEs, recognized by their files; `source=` names one. Nothing is read "
    "that cannot be read for certain: a setting that we cannot express, a tensor that is missing, "
    "left over, not finite or of another size is an error with its name"
)

SAID = {"release": FORMATS, "command": "Commands beside the core's, such as `saecore neuronpedia`"}
"""Kinds that no table of an experiment names."""
PLAIN = {int: "integer", float: "number", str: "string", bool: "true or false", dict: "table"}


def main() -> None:
    """Write the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    check = parser.parse_args().check
    wanted = pages()
    present = {f"reference/{one.name}" for one in (DOCS / "reference").glob("*.md")}
    outdated = sorted(present - set(wanted))
    for name, text in wanted.items():
        file = DOCS / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            outdated.append(name)
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
    if check and outdated:
        sys.exit(f"out of date: {', '.join(outdated)}; run `make docs`")
    for name in present - set(wanted):
        (DOCS / name).unlink(missing_ok=True)


def pages() -> dict[str, str]:
    """Every generated page: its path below docs/ and its text."""
    host = Host()
    strangers = {one.distribution for one in host.providers} - {"saecore"}
    host = Host(block=sorted(strangers))
    use_host(host)
    found = {
        "reference/experiment.md": _experiment(),
        "reference/command-line.md": _command_line(),
        "reference/hooks.md": _hooks(),
    }
    for kind in KINDS:
        if host.names(kind):
            found[_page(kind)] = _components(kind, host)
    use_host(None)
    return {"README.md": NOTE + _index(found), **{k: NOTE + v for k, v in found.items()}}


def _page(kind: str) -> str:
    return f"reference/{kind.replace('_', '-')}.md"


def _index(reference: dict[str, str]) -> str:
    def links(names: Iterator[str], text: Callable[[str], str]) -> str:
        return "".join(f"- [{text(name).partition(chr(10))[0][2:]}]({name})\n" for name in names)

    def written(folder: str) -> str:
        files = sorted((DOCS / folder).glob("*.md"))
        names = (f"{folder}/{one.name}" for one in files)
        return links(names, lambda name: (DOCS / name).read_text(encoding="utf-8"))

    how_to = written("how-to")
    return (
        "# Documentation\n\n"
        "Learn by doing:\n\n- [Tutorial: from installation to a steered generation](tutorial.md)\n"
        + (f"\nGet something done:\n\n{how_to}" if how_to else "")
        + "\nLook something up (written from the code; `saecore plugins NAME` and `saecore check` "
        "say the same in a terminal):\n\n"
        + links(iter(reference), lambda name: reference[name])
        + "\nChoose: [the architectures](architectures/README.md), a page for each.\n"
        + f"\nUnderstand:\n\n{written('explanation')}"
    )


def _experiment() -> str:
    text = (
        "# The experiment file\n\nA TOML file. `extends` names a file, or a list of files, that it "
        "is laid over, relative to itself; `--set key=value` is laid over both. Keys of the "
        "component that a table names stand in the same table. `seeds`, `[sweep]` and `[[sweep]]` "
        "make several experiments of one file: [Compare many SAEs](../how-to/compare.md).\n\n"
        "## Top level\n\n"
    )
    tables = [one for one in attrs.fields(Experiment) if attrs.has(_hints(Experiment)[one.name])]
    inner = {one.name for one in tables}
    text += _fields(Experiment, leave_out=inner)
    return text + "".join(_table(one.name, _hints(Experiment)[one.name]) for one in tables)


def _table(path: str, cls: type[Any]) -> str:
    hints = _hints(cls)
    nested = [name for name, hint in hints.items() if attrs.has(hint) and hint is not Choice]
    text = f"\n## [{path}]\n\n{_paragraphs(cls)}\n\n{_fields(cls, leave_out=set(nested))}"
    return text + "".join(_table(f"{path}.{name}", hints[name]) for name in nested)


def _components(kind: str, host: Host) -> str:
    tag = TAGS.get(kind, "type")
    title = kind.replace("_", " ").capitalize()
    said = SAID.get(kind, f"Named by `{tag}` in its table")
    text = f"# {title}\n\n{said}. `build` is `{KINDS[kind]}`.\n"
    for name in host.names(kind):
        component = host.component(kind, name)
        if kind == "release":  # the rules by which it is read; there are no settings
            module = importlib.import_module(host.provider(kind, name).module)
            text += f"\n## {name}\n\n{_prose(module)}\n"
            continue
        if kind == "command":
            text += f"\n## {name}\n\n{_command(component.builder()(), f'saecore {name}')}"
            continue
        text += f"\n## {name}\n\n{component.summary[0].upper()}{component.summary[1:]}.\n\n"
        text += _fields(component.config) if attrs.fields(component.config) else "No settings.\n"
    return text


def _fields(cls: type[Any], leave_out: set[str] | frozenset[str] = frozenset()) -> str:
    docs, hints = field_docs(cls), _hints(cls)
    rows = ["| key | value | default | |", "|---|---|---|---|"]
    for field in attrs.fields(cls):
        if field.name in leave_out:
            continue
        kind = field.metadata.get("inline")
        key = TAGS.get(kind, "type") if kind else field.name
        cells = (f"`{key}`", _type(field, hints[field.name]), _default(field), docs[field.name])
        rows.append("| " + " | ".join(_escaped(cell) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _escaped(cell: str) -> str:
    """Text for a cell of a table: Markdown would take <name> for HTML."""
    cell = cell.replace("|", "\\|")
    return cell if cell.startswith("`") else cell.replace("<", "&lt;")


def _type(field: Any, hint: Any) -> str:
    for key in ("inline", "choice", "choices"):
        if key in field.metadata:
            kind = field.metadata[key]
            name = f"[{kind}]({Path(_page(kind)).name})"
            return f"array of tables: {name}" if key == "choices" else name
    return _spelled(hint)


def _spelled(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_spelled(one) for one in inner if one is not types.NoneType)
    if origin is Literal:
        return " or ".join(f"`{show(one)}`" for one in inner)
    if origin is tuple:
        if inner[1:] == (...,):
            return f"list of {_spelled(inner[0])}s"
        return f"[{', '.join(_spelled(one) for one in inner)}]"
    return PLAIN.get(origin or hint, getattr(hint, "__name__", str(hint)))


def _default(field: Any) -> str:
    default = field.metadata.get("default", field.default)
    if isinstance(default, attrs.Factory):
        default = default.factory()
    if default is attrs.NOTHING:
        return "required"
    if default is None or default == {}:
        return "none"
    if callable(default):
        return "see right"
    whole = isinstance(default, int) and not isinstance(default, bool)
    return f"`{default:_}`" if whole else f"`{show(default)}`"


def _command_line() -> str:
    text = f"# The command line\n\n```\n{_help(cli, 'saecore')}\n```\n"
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        text += f"\n## saecore {name}\n\n```\n{_help(command, f'saecore {name}')}\n```\n"
    return text


def _command(command: click.Command, name: str) -> str:
    """The help of a command and of the commands in it."""
    text = f"```\n{_help(command, name)}\n```\n"
    inner = command.commands.items() if isinstance(command, click.Group) else ()
    return text + "".join(f"\n{_command(one, f'{name} {word}')}" for word, one in inner)


def _help(command: click.Command, name: str) -> str:
    names = cli.context_settings["help_option_names"]  # commands inherit them when they are called
    with click.Context(
        command, info_name=name, terminal_width=88, max_content_width=88, help_option_names=names
    ) as context:
        return command.get_help(context)


def _hooks() -> str:
    text = f"# Hooks and kinds of components\n\n{_paragraphs(hookspecs)}\n"
    for name, function in inspect.getmembers(hookspecs, inspect.isfunction):
        if hasattr(function, "saecore_spec"):
            parameters = ", ".join(inspect.signature(function).parameters)
            text += f"\n## {name}({parameters})\n\n{_paragraphs(function)}\n"
    text += f"\n## Kinds\n\n{_paragraphs(hookspecs.Builds)}\n\n"
    text += "| kind | what `build` returns | `build` |\n|---|---|---|\n"
    for kind, build in KINDS.items():
        summary = inspect.getdoc(vars(hookspecs.Builds)[kind].__func__)
        text += f"| `{kind}` | {summary} | `{build.replace('|', chr(92) + '|')}` |\n"
    return (
        text
        + "\nWhere the types are defined:\n\n"
        + "".join(f"- `{name}`: `{module}`\n" for name, module in sorted(_types().items()))
    )


def _types() -> dict[str, str]:
    """The types on the page of hooks, and the modules that define them."""
    tree = ast.parse(inspect.getsource(hookspecs))
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {
        alias.name: str(node.module)
        for node in imports
        if str(node.module).startswith("saecore.core")
        for alias in node.names
    }


def _paragraphs(described: Any) -> str:
    """A docstring as Markdown: indented blocks become code."""
    lines, fenced = [], False
    for line in (inspect.getdoc(described) or "").splitlines():
        indented = line.startswith("    ")
        if indented and not fenced:
            lines += ["", "```"] if lines and lines[-1] else ["```"]
        elif fenced and line and not indented:
            while not lines[-1]:
                lines.pop()
            lines += ["```", ""]
        fenced = indented or (fenced and not line)
        lines.append(line[4:] if indented else line)
    return "\n".join([*lines, "```"] if fenced else lines).replace("\n\n\n", "\n\n")


def _prose(described: Any) -> str:
    """A docstring as Markdown, which would take <name> for HTML outside of `code`."""
    parts = _paragraphs(described).split("`")
    parts[::2] = [one.replace("<", "&lt;") for one in parts[::2]]
    return "`".join(parts)


def _hints(cls: type[Any]) -> dict[str, Any]:
    """Types of fields; an optional table is that table."""
    hints = get_type_hints(cls)
    for name, hint in hints.items():
        inner = [one for one in get_args(hint) if one is not types.NoneType]
        if len(inner) == 1 and attrs.has(inner[0]):
            hints[name] = inner[0]
    return hints


if __name__ == "__main__":
    main()
