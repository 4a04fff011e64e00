"""`saecore runs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from saecore.errors import SaecoreError

COLUMNS = ("name", "id", "architecture", "d_sae", "sparsity", "tokens", "l0",
           "explained_variance", "ce_loss_score", "tokens_per_second")  # fmt: skip


@click.command("runs")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="The directory of the runs.",
)
@click.option("--sort", metavar="COLUMN", default="id", help="Sort by a column; - reverses.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(output: Path, sort: str, as_json: bool) -> None:
    """List runs with their held-out figures, read from their directories."""
    if not output.is_dir():
        raise SaecoreError(
            f"{output}: no such directory; give --output, or run an experiment first"
        )
    key = sort.removeprefix("-")
    if key not in COLUMNS:
        raise SaecoreError(f"--sort {sort}: expected one of {', '.join(COLUMNS)}")
    # <name>/<id>, and <sweep>/<point>/<id>
    files = [*output.glob("*/*/experiment.json"), *output.glob("*/*/*/experiment.json")]
    rows = [row for file in sorted(files) if (row := _row(file))]
    known = [row for row in rows if row[key] is not None]
    known.sort(key=lambda row: (isinstance(row[key], str), row[key]), reverse=sort[0] == "-")
    rows = known + [row for row in rows if row[key] is None]
    click.echo(json.dumps(rows, indent=1) if as_json else _table(rows))


def _row(file: Path) -> dict[str, Any] | None:
    """The row of one run; figures that it does not have (yet) are None."""
    try:
        return _figures(file)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        click.echo(f"warning: {file}: left out, not a run's record: {reason}", err=True)
        return None


def _figures(file: Path) -> dict[str, Any]:
    tables = json.loads(file.read_text())["experiment"]
    done = file.parent / "evaluation.json"
    result = json.loads(done.read_text()) if done.exists() else {}
    sae = tables["sae"]
    figures: dict[str, Any] = {}
    for group in result.get("figures", {}).values():
        figures.update({name: one["value"] for name, one in group.items()})
    training = result.get("training", {})
    sparsity = next(
        (f"{key}={value}" for key, value in sae.items() if key == "k" or "_coefficient" in key), ""
    )
    return {
        "name": tables["name"],
        "id": file.parent.name,
        "architecture": sae["architecture"],
        "d_sae": sae.get("d_sae") or f"x{sae.get('expansion_factor')}",
        "sparsity": sparsity,
        "tokens": training.get("tokens"),
        **{name: figures.get(name) for name in ("l0", "explained_variance", "ce_loss_score")},
        "tokens_per_second": training.get("tokens_per_second"),
    }


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no runs"

    def cell(column: str, value: Any) -> str:
        if value is None:
            return "-"
        if column in ("tokens", "tokens_per_second"):
            return f"{value:,.0f}"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    cells = [dict(zip(COLUMNS, COLUMNS, strict=True))]
    cells += [{c: cell(c, row[c]) for c in COLUMNS} for row in rows]
    widths = {c: max(len(row[c]) for row in cells) for c in COLUMNS}
    return "\n".join("  ".join(f"{row[c]:<{widths[c]}}" for c in COLUMNS).rstrip() for row in cells)
