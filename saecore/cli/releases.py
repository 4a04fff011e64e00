"""`saecore releases [PATTERN]` and `saecore releases show RELEASE`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from itertools import groupby
from typing import Any

import click

from saecore.cli._options import json_option
from saecore.cli._ranges import Bounds, numbers, short, widths
from saecore.core.catalogue import Entry
from saecore.errors import ReleaseError, nearest
from saecore.releases import catalogue

Test = Callable[[Entry], bool]


@click.command("releases")
@click.argument("words", nargs=-1, metavar="[PATTERN | show RELEASE]")
@click.option("--model", metavar="TEXT", help="Only models whose name contains TEXT.")
@click.option(
    "--layer", callback=numbers, metavar="A[-B]", help="Only these layers, such as 12 or 10-14."
)
@click.option(
    "--hook", metavar="TEXT", help="Only hooks whose name contains TEXT, such as resid_post."
)
@click.option(
    "--width",
    callback=widths,
    metavar="A[-B]",
    help="Only these numbers of latents, such as 16k or 16k-65k.",
)
@click.option(
    "--l0",
    callback=numbers,
    metavar="A[-B]",
    help="Only this published L0, such as 20-60.",
)
@click.option("--format", "source", metavar="NAME", help="Only this format, such as gemma_scope.")
@json_option()
def command(
    words: Sequence[str],
    model: str | None,
    layer: Bounds | None,
    hook: str | None,
    width: Bounds | None,
    l0: Bounds | None,
    source: str | None,
    as_json: bool,
) -> None:
    """List published SAEs that can be loaded by name; works offline.

    PATTERN is part of the name of a release, repository or model; * matches any text. Each release
    is listed with the number of its SAEs that match all options; `show RELEASE` lists these SAEs.
    """
    single = words[:1] == ("show",)
    if len(words) > 1 + single or (single and len(words) == 1):
        raise click.UsageError("expected one PATTERN, or show RELEASE")
    if single:
        entries: Iterable[Entry] = catalogue.release(words[1]).values()
    else:
        entries = catalogue.everything()
    tests: list[Test] = []
    if words and not single:
        pattern = words[0].lower() if "*" in words[0] else f"*{words[0].lower()}*"
        tests.append(lambda entry: any(fnmatch(name.lower(), pattern) for name in _names(entry)))
    if model is not None:
        tests.append(lambda entry: model.lower() in (entry.facts.model or "").lower())
    if hook is not None:
        tests.append(lambda entry: hook in (entry.facts.hook or ""))
    if source is not None:
        tests.append(lambda entry: entry.source == source)
    for bounds, value in (
        (layer, lambda entry: entry.layer),
        (width, lambda entry: entry.width),
        (l0, lambda entry: entry.facts.l0),
    ):
        if bounds is not None:
            tests.append(_within(bounds, value))
    matches = [entry for entry in entries if all(test(entry) for test in tests)]
    if source is not None and not matches:
        _check_format(source)
    if as_json:
        rows = [_table(entry) for entry in matches] if single else _rows(matches)
        click.echo(json.dumps(rows, indent=1))
    elif not matches:
        click.echo("no match in the catalogue")
    elif single:
        _print_saes(matches)
    else:
        _print_releases(_rows(matches), len(matches))


def _names(entry: Entry) -> tuple[str, ...]:
    """Names that PATTERN is compared with."""
    return (str(entry.facts.release), entry.repository, str(entry.facts.model))


def _within(bounds: Bounds, value: Callable[[Entry], float | None]) -> Test:
    """Test whether a value of an entry is known and within bounds."""

    def test(entry: Entry) -> bool:
        got = value(entry)
        return got is not None and bounds[0] <= got <= bounds[1]

    return test


def _check_format(name: str) -> None:
    """Refuse a format that no catalogue has."""
    known = sorted({entry.source for entry in catalogue.everything()})
    if name not in known:
        raise ReleaseError(
            f"--format {name}: no SAE in a catalogue has this format{nearest(name, known)} "
            f"(known: {', '.join(known)})"
        )


def _table(entry: Entry) -> dict[str, Any]:
    """An SAE as JSON."""
    facts = entry.facts
    return {
        "release": facts.release,
        "sae_id": facts.sae_id,
        "repository": entry.repository,
        "path": entry.path,
        "format": entry.source,
        "model": facts.model,
        "hook": facts.hook,
        "width": entry.width,
        "l0": facts.l0,
        "variance_explained": facts.variance_explained,
        "neuronpedia": facts.neuronpedia,
    }


def _rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row per release; values that differ between its SAEs are sorted lists."""
    rows = []
    for release, group in groupby(entries, lambda entry: entry.facts.release):
        saes = list(group)
        rows.append({
            "release": release,
            "repository": saes[0].repository,
            "model": saes[0].facts.model,
            "format": saes[0].source,
            "saes": len(saes),
            "layers": sorted({sae.layer for sae in saes if sae.layer is not None}),
            "hooks": sorted({(sae.facts.hook or "").rpartition("hook_")[2] for sae in saes}),
            "widths": sorted({sae.width for sae in saes if sae.width is not None}),
            "l0": sorted({sae.facts.l0 for sae in saes if sae.facts.l0 is not None}),
        })  # fmt: skip
    return rows


def _print_releases(rows: Sequence[dict[str, Any]], count: int) -> None:
    columns = ("release", "model", "format", "SAEs", "layers", "hooks", "widths", "L0")
    lines = [
        (row["release"], row["model"], row["format"], str(row["saes"]), short(row["layers"]),
         ", ".join(row["hooks"]), short(row["widths"], in_k=True), short(row["l0"]))
        for row in rows
    ]  # fmt: skip
    _print(columns, lines, numbers=("SAEs",))
    click.echo(
        f"{_count(len(rows), 'release')} with {_count(count, 'SAE')}; "
        "saecore releases show RELEASE lists them"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def _print_saes(entries: Sequence[Entry]) -> None:
    first = entries[0]
    click.echo(
        f"{first.facts.release}: {_count(len(entries), 'SAE')} of {first.facts.model}, "
        f"in {first.repository} ({first.source})"
    )
    columns = ("sae_id", "hook", "width", "L0", "explained variance", "neuronpedia")
    lines = [
        (str(e.facts.sae_id), str(e.facts.hook), f"{e.width:,}" if e.width else "",
         _number(e.facts.l0), _number(e.facts.variance_explained), e.facts.neuronpedia or "")
        for e in entries
    ]  # fmt: skip
    _print(columns, lines, numbers=("width", "L0", "explained variance"))
    words = ("saecore", "pull", str(first.facts.release), str(first.facts.sae_id))
    click.echo(f"load one: {shlex.join(words)}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _print(columns: Sequence[str], lines: Iterable[Sequence[str]], numbers: Sequence[str]) -> None:
    """Print a table as wide as the terminal, or in full if the output is not a terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in columns:
        first = name == columns[0]
        table.add_column(
            name, justify="right" if name in numbers else "left", no_wrap=first, overflow="fold"
        )
    for line in lines:
        table.add_row(*line)
    width = None if sys.stdout.isatty() else 1000
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as printed:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))
