"""`saecore runs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from saecore.cli._options import json_option
from saecore.errors import CheckpointError, SaecoreError, warn
from saecore.storage.run_directory import RunDirectory, find_runs

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
@json_option()
def command(output: Path, sort: str, as_json: bool) -> None:
    """List runs with their held-out metrics, read from their directories."""
    if not output.is_dir():
        raise SaecoreError(
            f"{output}: no such directory; give --output, or run an experiment first"
        )
    key = sort.removeprefix("-")
    if key not in COLUMNS:
        raise SaecoreError(f"--sort {sort}: expected one of {', '.join(COLUMNS)}")
    directories = find_runs(output, depths=(2, 3))  # <name>/<id>, and <sweep>/<point>/<id>
    rows = [row for directory in directories if (row := _row(directory))]
    known = [row for row in rows if row[key] is not None]
    known.sort(key=lambda row: (isinstance(row[key], str), row[key]), reverse=sort[0] == "-")
    rows = known + [row for row in rows if row[key] is None]
    click.echo(json.dumps(rows, indent=1) if as_json else _table(rows))


def _row(directory: RunDirectory) -> dict[str, Any] | None:
    """Return the row of a run, None for metrics that it does not have (yet)."""
    try:
        return _columns(directory)
    except CheckpointError as error:
        warn(f"run left out: {error}")
    except (LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        warn(f"run left out: {directory.record_file}: not the record of a run: {reason}")
    return None


def _columns(directory: RunDirectory) -> dict[str, Any]:
    tables = directory.read_record()["experiment"]
    result = directory.read_result() if directory.is_finished else {}
    sae, training = tables["sae"], result.get("training", {})
    metrics: dict[str, Any] = {}
    for group in result.get("figures", {}).values():
        metrics.update({name: metric["value"] for name, metric in group.items()})
    sparsity = next(
        (f"{key}={value}" for key, value in sae.items() if key == "k" or "_coefficient" in key), ""
    )
    return {
        "name": tables["name"],
        "id": directory.id,
        "architecture": sae["architecture"],
        "d_sae": sae.get("d_sae") or f"x{sae.get('expansion_factor')}",
        "sparsity": sparsity,
        "tokens": training.get("tokens"),
        **{name: metrics.get(name) for name in ("l0", "explained_variance", "ce_loss_score")},
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
