"""The command line: `saecore COMMAND`. A command's module is imported when it is called."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from saecore.errors import PluginError, SaecoreError
from saecore.plugins.hookspecs import KINDS
from saecore.plugins.host import Host, current_host, use_host

GROUPS = {
    "Train": {
        "run": "Train the SAE that an experiment file describes, evaluate it and save it.",
        "check": "Validate an experiment file and print it resolved, with each value's origin.",
        "show": "List the points of a sweep, or print a resolved experiment.",
        "init": "Write the example experiments into a directory.",
        "cache": "Write the activations that an experiment trains on to disk.",
        "tokenize": "Write the tokens of an experiment's text to disk.",
    },
    "Look": {
        "runs": "List finished and unfinished runs with their metrics.",
        "evaluate": "Measure an SAE on held-out text.",
        "dashboard": "Write a web page that shows the features of an SAE.",
        "verify": "Check every file of a run: checkpoints, metrics, the saved SAE.",
    },
    "Compare": {
        "compare": "Compare runs: a table, and a report with the usual plots.",
        "plot": "Plot the curves of runs, the density of latents, sparsity against reconstruction.",
    },
    "Publish": {
        "push": "Publish an SAE, a run or a cache on the Hugging Face hub.",
        "releases": "Search the published SAEs that can be loaded by name.",
        "pull": "Download a published SAE, check it and describe it.",
        "verify-release": "Measure a published SAE's L0 and explained variance, and compare them.",
        "convert": "Write an SAE in the format of another library.",
    },
    "Extend": {
        "plugins": "List the installed plugins, or describe one.",
        "new-plugin": "Write a package with a new plugin, its test and an experiment.",
    },
}
"""Core commands by what they are for, with their help, in the order of `saecore --help`."""

COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}
"""Core commands and their help; each is a module of this package (`-` becomes `_`)."""


MEANINGS = {
    "train": "run",
    "sweep": "run",
    "resume": "run",
    "validate": "check",
    "eval": "evaluate",
    "list": "runs",
    "search": "releases",
    "download": "pull",
    "load": "pull",
    "upload": "push",
    "publish": "push",
    "export": "convert",
    "features": "dashboard",
    "report": "compare",
}
"""Words that people try, and the command that each of them means."""


class Commands(click.Group):
    """Core commands, and those of `command` plugins; none is imported before it is called."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Apply --block and --plugin, then look the command up."""
        if ctx.resilient_parsing:  # the Tab key runs no plugin file
            return super().resolve_command(ctx, args)
        block, files = ctx.params["block"], ctx.params["files"]
        use_host(Host(block, files) if block or files else None)
        if not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise SaecoreError(self._unknown(ctx, args[0]))
        return super().resolve_command(ctx, args)

    def _unknown(self, ctx: click.Context, name: str) -> str:
        """The message about a command that does not exist."""
        commands = self.list_commands(ctx)
        close = difflib.get_close_matches(name.lower(), [*commands, *MEANINGS], n=1, cutoff=0.6)
        command = MEANINGS.get(close[0], close[0]) if close else None
        hint = f'; did you mean "{command}"?' if command else ""
        return f'no command "{name}"{hint} (`saecore --help` lists the commands)'

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List all names: the core's, then those of plugins."""
        return [*COMMANDS, *_plugin_commands()]

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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands and options, without importing any command."""
        texts = {**COMMANDS, **_plugin_commands()}
        commands = [CompletionItem(n, help=t) for n, t in texts.items() if n.startswith(incomplete)]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands in --help, without importing any."""
        groups = {**GROUPS, "From plugins": _plugin_commands()}
        width = max(len(name) for commands in groups.values() for name in commands)
        for title, commands in groups.items():
            if commands:
                with formatter.section(title):
                    formatter.write_dl([(n.ljust(width), t) for n, t in commands.items()])


def _plugin_commands() -> dict[str, str]:
    """Commands of plugins, with the distribution they come from in place of a help."""
    commands: dict[str, str] = {}
    for provider in current_host().providers:
        if provider.kind == "command" and provider.name not in COMMANDS:
            commands.setdefault(provider.name, f"(from {provider.distribution})")
    return commands


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
