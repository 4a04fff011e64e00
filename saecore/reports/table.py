"""The table of a comparison, as terminal cells, Markdown, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from saecore.reports.runs import FinishedRun, differing
from saecore.reports.seeds import Row, Value

COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "l0": ("L0", lambda x: f"{x:.1f}"),
    "explained_variance": ("EV", lambda x: f"{x:.4f}"),
    "ce_loss_score": ("CE score", lambda x: f"{x:.4f}"),
    "dead": ("dead", lambda x: f"{x:.0f}"),
    "mcc": ("MCC", lambda x: f"{x:.3f}"),
    "tokens_per_second": ("tokens/s", lambda x: f"{x:,.0f}"),
    "peak_memory": ("memory", lambda x: f"{x / 2**20:,.0f} MiB"),
}
"""Figures of the table: heading and number format."""


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of cells, without columns that are empty in every row."""
    shown = [figure for figure in COLUMNS if any(value_of(row, figure) for row in rows)]
    seeds = any(len(row.runs) > 1 for row in rows)
    head = ["run", "architecture", "d_sae", *(["seeds"] if seeds else [])]
    head += [COLUMNS[figure][0] for figure in shown]
    lines = []
    for row in rows:
        first = row.runs[0]
        line = [row.label, first.architecture, width(first)]
        line += [str(len(row.runs))] if seeds else []
        lines.append(line + [formatted(figure, value_of(row, figure)) for figure in shown])
    return head, lines


def width(run: FinishedRun) -> str:
    """The number of latents: d_sae, or the expansion factor as `x4`."""
    d_sae = run.settings.get("sae.d_sae")
    return f"x{run.settings.get('sae.expansion_factor')}" if d_sae is None else str(d_sae)


def value_of(row: Row, figure: str) -> Value | None:
    """A figure of a row by name; None if the row lacks it."""
    return row.stability if figure == "mcc" else row.values.get(figure)


def formatted(figure: str, value: Value | None) -> str:
    """A figure with its interval as text, "-" if missing."""
    if value is None:
        return "-"
    if not math.isfinite(value.mean):
        return "not finite"
    number_format = COLUMNS[figure][1]
    exact = not value.half or figure in ("tokens_per_second", "peak_memory")
    mean = number_format(value.mean)
    return mean if exact else f"{mean} ± {number_format(value.half or 0.0)}"


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    head, lines = cells(rows)
    align = ["---", "---", *("---:" for _ in head[2:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, align, *lines))


def as_json(rows: Sequence[Row]) -> str:
    """Every row with its runs and figures, and the settings in which the runs differ."""
    runs = [run for row in rows for run in row.runs]
    differs = differing(runs)
    return json.dumps(
        {
            "rows": [_row(row) for row in rows],
            "differences": {
                key: dict(zip([run.label for run in runs], values, strict=True))
                for key, values in differs.items()
            },
        },
        indent=1,
    )


def as_csv(rows: Sequence[Row]) -> str:
    """One line per run, with every figure and every setting in which the runs differ."""
    runs = [run for row in rows for run in row.runs]
    differs = differing(runs)
    figures = list(dict.fromkeys(name for run in runs for name in run.figures))
    cost = ("tokens", "seconds", "tokens_per_second", "peak_memory")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "directory", *differs, *figures, "dead", *cost])
    for i, run in enumerate(runs):
        settings = [values[i] for values in differs.values()]
        numbers = [run.figures.get(name) for name in figures]
        writer.writerow(
            [run.label, run.directory, *settings, *numbers, run.dead, *map(run.cost.get, cost)]
        )
    return out.getvalue()


def _row(row: Row) -> Mapping[str, Any]:
    values = {
        name: {"mean": _finite(value.mean), "half": _finite(value.half)}
        for name, value in row.values.items()
    }
    mcc = row.stability.mean if row.stability else None
    runs = [
        {
            "name": run.label,
            "directory": str(run.directory),
            "seed": run.seed,
            "figures": {name: _finite(value) for name, value in run.figures.items()},
            "cost": dict(run.cost),
        }
        for run in row.runs
    ]
    return {"name": row.label, "figures": values, "mcc": mcc, "runs": runs}


def _finite(value: float | None) -> float | None:
    """The number, None (null in JSON) if it is not finite."""
    return value if value is not None and math.isfinite(value) else None
