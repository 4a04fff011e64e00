"""The report: one HTML file that needs nothing else, light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from saecore.compare.runs import Compared, differing
from saecore.compare.seeds import Row, Value
from saecore.compare.svg import MARKS, SERIES, Axis, Mark, Series, curves, scatter
from saecore.compare.table import cells, width
from saecore.files import write_bytes
from saecore.pages import page

STYLE = Path(__file__).with_name("report.css")
SCRIPT = Path(__file__).with_name("report.js")

FRONTIERS = {
    "explained_variance": "explained variance",
    "ce_loss_score": "CE loss score",
    "dead": "dead latents",
}
"""What is plotted against L0, and the label."""
CURVES = {
    "metrics/explained_variance": "explained variance",
    "metrics/l0": "L0",
    "sparsity/dead_features": "dead latents",
}
"""What is plotted over training, and the label."""


def write_report(file: Path, rows: Sequence[Row], title: str) -> None:
    """Write the report of a comparison.

    Args:
        file: the HTML file; what is there is replaced.
        rows: what is compared.
        title: its heading.

    Raises:
        SaecoreError: it cannot be written.
    """
    runs = [one for row in rows for one in row.runs]
    count = f"{len(runs)} runs" + (f", {len(rows)} configurations" if len(rows) < len(runs) else "")
    body = "".join(
        [
            f"<h1>{escape(title)}</h1><p>{count}</p>",
            _legend(rows),
            '<div class="plots">',
            *_frontiers(rows),
            "</div>",
            _section("Figures", _table(*cells(rows)), _note(rows)),
            '<h2>Training</h2><div class="plots">',
            *_curves(rows, runs),
            "</div>",
            _section("Cost", _cost(runs), COST_NOTE),
            _section("What differs", _differences(runs), "Every setting in which the runs differ."),
            _section("Where they are", _table(["run", "directory"], _places(runs)), ""),
        ]
    )
    write_bytes(file, page(title, f"<main>{body}</main>", STYLE, SCRIPT))


WHAT = (
    "L0, explained variance (EV) and CE loss score on held-out text; dead latents at the end of "
    "training."
)
COST_NOTE = (
    "Seconds are those of the SAE's own steps. Runs that shared a stream bear its seconds (one "
    "pass of the model, mixing) in equal parts, and tokens/s counts that part; peak memory is "
    "that of the process they ran in."
)


DASHES = ("", " (dashed)", " (dotted)", " (long dashes)")
"""How curves of a width are drawn."""


def _kinds(rows: Sequence[Row]) -> dict[str, str]:
    """What a colour stands for, by run: its architecture, or its row where there is only one."""
    several = len({row.runs[0].architecture for row in rows}) > 1
    return {
        one.label: one.architecture if several else row.label for row in rows for one in row.runs
    }


def _colours(rows: Sequence[Row]) -> dict[str, int]:
    found = dict.fromkeys(_kinds(rows).values())
    return {name: number for number, name in enumerate(found)}


def _shapes(rows: Sequence[Row]) -> dict[str, int]:
    found = dict.fromkeys(width(row.runs[0]) for row in rows)
    return {name: number for number, name in enumerate(found)}


def _legend(rows: Sequence[Row]) -> str:
    """Colours stand for architectures (or rows), shapes for widths."""
    colours = "".join(
        f'<li><button class="c{i % SERIES}" data-series="{i % SERIES}">{escape(name)}</button></li>'
        for name, i in _colours(rows).items()
    )
    signs = "●■▲◆"
    shapes = "".join(
        f"<li>{signs[i % MARKS]} {escape(name)} latents{DASHES[i % MARKS]}</li>"
        for name, i in _shapes(rows).items()
    )
    return f'<ul class="legend">{colours}{shapes}</ul>'


def _frontiers(rows: Sequence[Row]) -> list[str]:
    plots = []
    for figure, label in FRONTIERS.items():
        known = [row for row in rows if "l0" in row.values and figure in row.values]
        if not known:
            continue
        x = Axis.over("L0 (active latents per token)", _ends(known, "l0"), log=True)
        y = Axis.over(label, _ends(known, figure))
        shapes, kinds = _shapes(rows), _kinds(rows)
        series = [
            Series(
                name,
                colour,
                [
                    _mark(row, figure, label, shapes[width(row.runs[0])])
                    for row in known
                    if kinds[row.runs[0].label] == name
                ],
            )
            for name, colour in _colours(rows).items()
        ]
        plot = scatter(series, x, y, lines=figure != "dead")
        plots.append(_figure(f"{label} against L0", plot))
    return plots


def _ends(rows: Sequence[Row], figure: str) -> list[float]:
    values = [row.values[figure] for row in rows]
    return [one.mean for one in values] + [
        one.mean + sign * (one.half or 0.0) for one in values for sign in (-1, 1)
    ]


def _mark(row: Row, figure: str, label: str, shape: int) -> Mark:
    x, y = row.values["l0"], row.values[figure]
    title = f"{row.label}: L0 {_shown(x)}, {label} {_shown(y)}"
    return Mark(x.mean, y.mean, title, x.half or 0.0, y.half or 0.0, shape)


def _shown(value: Value) -> str:
    return f"{value.mean:.4g}" + (f" ± {value.half:.2g}" if value.half else "")


def _curves(rows: Sequence[Row], runs: Sequence[Compared]) -> list[str]:
    plots = []
    colours, shapes, kinds = _colours(rows), _shapes(rows), _kinds(rows)
    for figure, label in CURVES.items():
        series = []
        for one in runs:
            marks = [Mark(line["tokens"], line[figure], "") for line in one.curve if figure in line]
            if marks:
                colour, dash = colours[kinds[one.label]], shapes[width(one)]
                series.append(Series(one.label, colour, marks, dash))
        if not series:
            continue
        xs = [mark.x for one in series for mark in one.marks]
        ys = sorted(mark.y for one in series for mark in one.marks)
        # The first steps may be far off: the axis holds 95 of 100 points.
        ys = ys[len(ys) // 20 :] if figure == "metrics/explained_variance" else ys
        x, y = Axis.over("tokens", xs), Axis.over(label, ys, log=figure == "metrics/l0")
        plots.append(_figure(f"{label} in training", curves(series, x, y)))
    return plots


def _cost(runs: Sequence[Compared]) -> str:
    head = [
        "run",
        "tokens",
        "seconds",
        "shared with",
        "stream's seconds",
        "tokens/s",
        "peak memory",
    ]
    lines = []
    for one in runs:
        stream = one.cost.get("stream")
        memory = one.cost.get("peak_memory")
        lines.append(
            [
                one.label,
                f"{one.cost['tokens']:,}",
                f"{one.cost['seconds']:.1f}",
                f"{stream['runs'] - 1} others" if stream else "-",
                f"{stream['seconds']:.1f}" if stream else "-",
                f"{one.cost['tokens_per_second']:,.0f}",
                f"{memory / 2**20:,.0f} MiB" if memory else "-",
            ]
        )
    return _table(head, lines)


def _differences(runs: Sequence[Compared]) -> str:
    lines = [
        [key, *("" if value is None else _plain(value) for value in values)]
        for key, values in differing(runs).items()
    ]
    return _table(["setting", *(one.label for one in runs)], lines, numbers=False)


def _places(runs: Sequence[Compared]) -> list[list[str]]:
    return [[one.label, str(one.directory)] for one in runs]


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _note(rows: Sequence[Row]) -> str:
    if all(len(row.runs) == 1 for row in rows):
        return WHAT
    return (
        "Means over seeds; ± is half the 95 % interval of the mean (Student's t). MCC is the "
        "mean correlation coefficient of decoder rows matched one to one between seeds (Hungarian "
        "method), averaged over pairs of seeds. " + WHAT
    )


def _figure(title: str, plot: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{plot}</figure>"


def _section(title: str, content: str, note: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}<p>{escape(note)}</p>"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], numbers: bool = True) -> str:
    cells = "".join(f"<th>{escape(one)}</th>" for one in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(one)}</td>" for one in line) + "</tr>" for line in lines
    )
    kind = ' class="numbers"' if numbers else ""
    return (
        f'<div class="wide"><table{kind}><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
