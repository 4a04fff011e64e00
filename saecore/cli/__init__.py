"""The command line: `saecore COMMAND`. A command's module is imported when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from saecore.errors import PluginError, SaecoreError
from saecore.plugins.hookspecs import KINDS
from saecore.plugins.host import Host, current_host, use_host

COMMANDS = {
    "run": "Train the SAE that an experiment file describes, evaluate it and save it.",
    "check": "Validate an experiment file and print it resolved, with the origin of each value.",
    "show": "List the points of a sweep, or print a resolved experiment.",
    "compare": "Compare runs: a table, and a report with the usual plots.",
    "cache": "Write the activations that an experiment trains on to disk.",
    "tokenize": "Write the tokens of an experiment's text to disk.",
    "evaluate": "Measure an SAE on held-out text.",
    "plot": "Plot the curves of runs, the density of latents, sparsity against reconstruction.",
    "dashboard": "Write a web page that shows the features of an SAE.",
    "runs": "List finished and unfinished runs with their metrics.",
    "verify": "Check every file of a run: checkpoints, metrics, the saved SAE.",
    "releases": "Search the published SAEs that can be loaded by name.",
    "pull": "Download a published SAE, check it and describe it.",
    "push": "Publish an SAE, a run or a cache on the Hugging Face hub.",
    "verify-release": "Measure a published SAE's L0 and explained variance, and compare them.",
    "convert": "Write an SAE in the format of another library.",
    "plugins": "List the installed plugins, or describe one.",
    "init": "Write the example experiments into a directory.",
    "new-plugin": "Write a package with a new plugin, its test and an experiment.",
}
"""Core commands and their help; each is a module of this package (`-` becomes `_`)."""


class Commands(click.Group):
    """Core commands, and those of `command` plugins; none is imported before it is called."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Apply --block and --plugin, then look the command up."""
        block, files = ctx.params["block"], ctx.params["files"]
        use_host(Host(block, files) if block or files else None)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List all names: the core's, then those of plugins."""
        return [*COMMANDS, *(n for n in current_host().names("command") if n not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"saecore.cli.{cmd_name.replace('-', '_')}")
            command: click.Command = module.command
            return command
        if cmd_name in current_host().names("command"):
            component = current_host().component("command", cmd_name)
            built = component.builder()()
            if not isinstance(built, click.Command):
                raise PluginError(
                    f"plugin {component}: build must be {KINDS['command']}, "
                    f"got {type(built).__name__}"
                )
            return built
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands in --help, without importing any."""
        rows = []
        for name in self.list_commands(ctx):
            if name in COMMANDS:
                rows.append((name, COMMANDS[name]))
            else:
                owners = [p for p in current_host().providers if p.full_name == f"command.{name}"]
                rows.append((name, f"(from {owners[0].distribution})"))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="saecore", prog_name="saecore")
@click.option(
    "--block",
    multiple=True,
    metavar="NAME",
    help="Switch off a plugin (kind.name) or all plugins of a distribution. Repeatable.",
)
@click.option(
    "--plugin",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Use a local plugin file, which runs its code. Repeatable.",
)
def cli(block: Sequence[str], files: Sequence[Path]) -> None:
    """Train, load and compare sparse autoencoders on language-model activations.

    Begin with `saecore init`, then `saecore run experiments/topk.toml`.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; a SaecoreError is printed without a traceback, with exit code 2."""
    try:
        cli.main(args=None if argv is None else list(argv), prog_name="saecore")
    except SaecoreError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
