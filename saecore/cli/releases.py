"""`saecore releases [PATTERN]` and `saecore releases show RELEASE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from itertools import groupby
from typing import Any

import click

from saecore.cli.ranges import Bounds, numbers, short, widths
from saecore.errors import ReleaseError, nearest
from saecore.releases import catalogue
from saecore.releases.catalogue import Entry

Test = Callable[[Entry], bool]


@click.command("releases")
@click.argument("words", nargs=-1, metavar="[PATTERN | show RELEASE]")
@click.option("--model", metavar="TEXT", help="Of a model whose name contains TEXT.")
@click.option("--layer", callback=numbers, metavar="A[-B]", help="Of a layer, such as 12 or 10-14.")
@click.option("--hook", metavar="TEXT", help="Of a hook whose name contains TEXT: resid_post.")
@click.option(
    "--width",
    callback=widths,
    metavar="A[-B]",
    help="With so many latents, such as 16k or 16k-65k.",
)
@click.option(
    "--l0",
    callback=numbers,
    metavar="A[-B]",
    help="With so many active latents as published: 20-60.",
)
@click.option("--format", "source", metavar="NAME", help="In a format, such as gemma_scope.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
    """List published SAEs that can be loaded by name, without asking a network.

    PATTERN is a part of a release's, repository's or model's name, or has * for any text. A release
    is listed with the number of its SAEs that all options fit; `show RELEASE` lists these SAEs.
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
        tests.append(lambda one: any(fnmatch(name.lower(), pattern) for name in _names(one)))
    if model is not None:
        tests.append(lambda one: model.lower() in (one.facts.model or "").lower())
    if hook is not None:
        tests.append(lambda one: hook in (one.facts.hook or ""))
    if source is not None:
        tests.append(lambda one: one.source == source)
    for bounds, value in (
        (layer, lambda one: one.layer),
        (width, lambda one: one.width),
        (l0, lambda one: one.facts.l0),
    ):
        if bounds is not None:
            tests.append(_within(bounds, value))
    found = [one for one in entries if all(test(one) for test in tests)]
    if source is not None and not found:
        _check_format(source)
    if as_json:
        click.echo(json.dumps([_table(one) for one in found] if single else _rows(found), indent=1))
    elif not found:
        click.echo("nothing in the catalogue fits")
    elif single:
        _print_saes(found)
    else:
        _print_releases(_rows(found), len(found))


def _names(one: Entry) -> tuple[str, ...]:
    return (str(one.facts.release), one.repository, str(one.facts.model))


def _within(bounds: Bounds, value: Callable[[Entry], float | None]) -> Test:
    def test(one: Entry) -> bool:
        got = value(one)
        return got is not None and bounds[0] <= got <= bounds[1]

    return test


def _check_format(name: str) -> None:
    known = sorted({one.source for one in catalogue.everything()})
    if name not in known:
        raise ReleaseError(
            f"--format {name}: no SAE of a catalogue has it{nearest(name, known)} "
            f"(known: {', '.join(known)})"
        )


def _table(one: Entry) -> dict[str, Any]:
    facts = one.facts
    return {
        "release": facts.release,
        "sae_id": facts.sae_id,
        "repository": one.repository,
        "path": one.path,
        "format": one.source,
        "model": facts.model,
        "hook": facts.hook,
        "width": one.width,
        "l0": facts.l0,
        "variance_explained": facts.variance_explained,
        "neuronpedia": facts.neuronpedia,
    }


def _rows(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row a release; what differs between its SAEs as sorted lists."""
    rows = []
    for release, group in groupby(found, lambda one: one.facts.release):
        saes = list(group)
        rows.append({
            "release": release,
            "repository": saes[0].repository,
            "model": saes[0].facts.model,
            "format": saes[0].source,
            "saes": len(saes),
            "layers": sorted({one.layer for one in saes if one.layer is not None}),
            "hooks": sorted({(one.facts.hook or "").rpartition("hook_")[2] for one in saes}),
            "widths": sorted({one.width for one in saes if one.width is not None}),
            "l0": sorted({one.facts.l0 for one in saes if one.facts.l0 is not None}),
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


def _print_saes(found: Sequence[Entry]) -> None:
    one = found[0]
    click.echo(
        f"{one.facts.release}: {_count(len(found), 'SAE')} of {one.facts.model}, "
        f"in {one.repository} ({one.source})"
    )
    columns = ("sae_id", "hook", "width", "L0", "explained variance", "neuronpedia")
    lines = [
        (str(e.facts.sae_id), str(e.facts.hook), f"{e.width:,}" if e.width else "",
         _number(e.facts.l0), _number(e.facts.variance_explained), e.facts.neuronpedia or "")
        for e in found
    ]  # fmt: skip
    _print(columns, lines, numbers=("width", "L0", "explained variance"))
    click.echo(f"load one: saecore pull {one.facts.release} {one.facts.sae_id}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _print(columns: Sequence[str], lines: Iterable[Sequence[str]], numbers: Sequence[str]) -> None:
    """A table as wide as the terminal; whole where it is read by a program."""
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
    wide = None if sys.stdout.isatty() else 1000
    console = Console(width=wide, highlight=False, markup=False)
    with console.capture() as printed:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))
