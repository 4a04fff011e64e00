"""The table of a comparison: for a terminal, Markdown, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from saecore.compare.runs import Compared, differing
from saecore.compare.seeds import Row, Value

COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "l0": ("L0", lambda x: f"{x:.1f}"),
    "explained_variance": ("EV", lambda x: f"{x:.4f}"),
    "ce_loss_score": ("CE score", lambda x: f"{x:.4f}"),
    "dead": ("dead", lambda x: f"{x:.0f}"),
    "mcc": ("MCC", lambda x: f"{x:.3f}"),
    "tokens_per_second": ("tokens/s", lambda x: f"{x:,.0f}"),
    "peak_memory": ("memory", lambda x: f"{x / 2**20:,.0f} MiB"),
}
"""Figures: heading, and how a number is written."""


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and lines, columns that no row has left out."""
    shown = [one for one in COLUMNS if any(value_of(row, one) for row in rows)]
    seeds = any(len(row.runs) > 1 for row in rows)
    head = ["run", "architecture", "d_sae", *(["seeds"] if seeds else [])]
    head += [COLUMNS[one][0] for one in shown]
    lines = []
    for row in rows:
        first = row.runs[0]
        line = [row.label, first.architecture, width(first)]
        line += [str(len(row.runs))] if seeds else []
        lines.append(line + [written(one, value_of(row, one)) for one in shown])
    return head, lines


def width(run: Compared) -> str:
    """The number of latents, or as which multiple of d_in it was given."""
    d_sae = run.settings.get("sae.d_sae")
    return f"x{run.settings.get('sae.expansion_factor')}" if d_sae is None else str(d_sae)


def value_of(row: Row, figure: str) -> Value | None:
    """A figure of a row."""
    return row.stability if figure == "mcc" else row.values.get(figure)


def written(figure: str, value: Value | None) -> str:
    """A number with its interval."""
    if value is None:
        return "-"
    show = COLUMNS[figure][1]
    exact = not value.half or figure in ("tokens_per_second", "peak_memory")
    return show(value.mean) if exact else f"{show(value.mean)} ± {show(value.half or 0.0)}"


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    head, lines = cells(rows)
    align = ["---", "---", *("---:" for _ in head[2:])]
    return "\n".join("| " + " | ".join(one) + " |" for one in (head, align, *lines))


def as_json(rows: Sequence[Row]) -> str:
    """Every row with its runs and numbers, and the settings in which the runs differ."""
    runs = [one for row in rows for one in row.runs]
    differs = differing(runs)
    return json.dumps(
        {
            "rows": [_row(row) for row in rows],
            "differences": {
                key: dict(zip([one.label for one in runs], values, strict=True))
                for key, values in differs.items()
            },
        },
        indent=1,
    )


def as_csv(rows: Sequence[Row]) -> str:
    """A line for each run, with every figure and every setting in which the runs differ."""
    runs = [one for row in rows for one in row.runs]
    differs = differing(runs)
    figures = list(dict.fromkeys(name for one in runs for name in one.figures))
    cost = ("tokens", "seconds", "tokens_per_second", "peak_memory")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "directory", *differs, *figures, "dead", *cost])
    for i, one in enumerate(runs):
        settings = [values[i] for values in differs.values()]
        numbers = [one.figures.get(name) for name in figures]
        writer.writerow(
            [one.label, one.directory, *settings, *numbers, one.dead, *map(one.cost.get, cost)]
        )
    return out.getvalue()


def _row(row: Row) -> Mapping[str, Any]:
    values = {name: {"mean": one.mean, "half": one.half} for name, one in row.values.items()}
    mcc = row.stability.mean if row.stability else None
    runs = [
        {
            "name": one.label,
            "directory": str(one.directory),
            "seed": one.seed,
            "figures": dict(one.figures),
            "cost": dict(one.cost),
        }
        for one in row.runs
    ]
    return {"name": row.label, "figures": values, "mcc": mcc, "runs": runs}
