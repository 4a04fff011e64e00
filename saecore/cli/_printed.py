"""Commands that a command prints for users to type: complete, and quoted for a shell."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click


def command_line(ctx: click.Context, *words: str | Path) -> str:
    """Format `saecore WORDS`, with the --block and --plugin of the present call.

    Args:
        ctx: the present call.
        words: the command and its arguments.
    """
    before: list[str] = []
    if ctx.parent is not None:
        before += [word for name in ctx.parent.params["block"] for word in ("--block", name)]
        before += [word for file in ctx.parent.params["files"] for word in ("--plugin", str(file))]
    return shlex.join(["saecore", *before, *map(str, words)])


def set_words(settings: Iterable[str] | Mapping[str, Any]) -> list[str]:
    """Format settings as --set options.

    Args:
        settings: `key=value` strings, or values by key.
    """
    if isinstance(settings, Mapping):
        settings = [f"{key}={_toml(value)}" for key, value in settings.items()]
    return [word for setting in settings for word in ("--set", setting)]


def unused_buffer() -> dict[str, Any]:
    """Settings that undo the [buffer] of any file: it has no effect on cached activations."""
    import attrs

    from saecore.config.experiment import BufferTable

    return {f"buffer.{field.name}": field.default for field in attrs.fields(BufferTable)}


def trust_words(ctx: click.Context) -> list[str]:
    """Repeat --trust-remote-code if the present call has it."""
    return ["--trust-remote-code"] if ctx.params.get("trust_remote_code") else []


def _toml(value: Any) -> str:
    """Format a value as --set reads it; plain words need no quotes."""
    is_word = isinstance(value, str) and re.fullmatch(r"[A-Za-z./~_-]*[/._-][\w./-]*", value)
    is_name = isinstance(value, str) and re.fullmatch(r"[a-z]{3,}", value)
    if is_word or (is_name and value not in ("true", "false", "inf", "nan")):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
