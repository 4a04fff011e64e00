"""Options and arguments that several commands share, each with one name and one help text.

This module imports only click: every command imports it, and `saecore COMMAND --help` must be fast.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Decorator(Protocol):
    """Adds an argument or option to a command."""

    def __call__(self, command: Command, /) -> Command:
        """Return the command."""
        ...


PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)

# -- arguments -----------------------------------------------------------------------------

experiment_argument: Decorator = click.argument("file", type=PATH)
"""FILE: an experiment or a sweep."""

runs_argument: Decorator = click.argument(
    "paths", nargs=-1, required=True, type=PATH, metavar="RUNS…"
)
"""RUNS…: directories of runs, of sweeps, or directories that contain runs."""


def release_arguments(command: Command) -> Command:
    """RELEASE [SAE_ID]: a published SAE."""
    command = click.argument("sae_id", default="")(command)
    return click.argument("release")(command)


# -- options -------------------------------------------------------------------------------

model_option: Decorator = click.option(
    "--model", metavar="MODEL", help="Name or path of the language model; default: the SAE's own."
)

dataset_option: Decorator = click.option(
    "--dataset",
    metavar="DATASET",
    help="Name or path of the text; default: what the SAE was trained on.",
)

trust_remote_code_option: Decorator = click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run the Python code that comes with the model, if it has any.",
)


def set_option(keys: str = "any key of FILE, such as sae.k") -> Decorator:
    """--set KEY=VALUE, as `settings`.

    Args:
        keys: which keys the command accepts.
    """
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Override a setting; KEY is {keys}. Repeatable.",
    )


def json_option(form: str = "") -> Decorator:
    """--json, as `as_json`.

    Args:
        form: whose format it is, such as "in SAEBench's format", if it is not saecore's.
    """
    return click.option(
        "--json", "as_json", is_flag=True, help=f"Print JSON{f' {form}' if form else ''}."
    )


def directory_option(parent: str) -> Decorator:
    """--to DIRECTORY, as `directory`: where a command writes what an experiment describes.

    Args:
        parent: default parent directory.
    """
    return click.option(
        "--to",
        "directory",
        type=PATH,
        help=f"Directory to write to; default: {parent}/<name of the experiment>.",
    )


def out_option(formats: str, default: str | None = None) -> Decorator:
    """--out FILE, as `out`.

    Args:
        formats: formats that the command writes, such as "HTML".
        default: default file; without one nothing is written.
    """
    return click.option(
        "--out",
        type=FILE,
        metavar="FILE",
        default=None if default is None else Path(default),
        show_default=default is not None,
        help=f"{formats} file to write.",
    )


def title_option(default: str) -> Decorator:
    """--title: heading of an HTML page.

    Args:
        default: what it is by default.
    """
    return click.option("--title", help=f"Heading of the HTML page; default: {default}.")
