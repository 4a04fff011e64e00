"""`tables`: write the tables of docs/explanation/performance.md from the committed results.

What has not been measured says "not run". A test checks that the page is current.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from tests.bench import cases, figures, step
from tests.bench.figures import Figure, verdict
from tests.bench.rounds import ratio

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"
BEGIN, END = "<!-- Written by `python -m tests.bench tables`. -->", "<!-- End of the tables. -->"
OURS = tuple(step.BACKENDS)


def options_of(parser: argparse.ArgumentParser) -> None:
    """Nothing more."""


def main(options: argparse.Namespace) -> None:
    """Write the page."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(text, options.results), encoding="utf-8")
    print(PAGE.relative_to(PAGE.parents[2]))


def filled(text: str, results: Path) -> str:
    """The page with the tables of these results."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables(results)}\n{END}{rest.split(END)[1]}"


def tables(results: Path) -> str:
    """All of them."""
    found = {name: kept(results, name) for name in ("step", "growth", "run", "harvest", "gpu")}
    parts = ["### The training step", steps(found["step"]), "### Wider dictionaries",
             growth(found["growth"]), "### Whole runs and harvest",
             others(found["run"], found["harvest"]), "### On a GPU", gpu(found["gpu"]),
             "### Where and when", sources(found)]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def kept(results: Path, name: str) -> dict[str, Any]:
    """The cases of a command."""
    file = results / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))["cases"]) if file.exists() else {}


def table(heads: list[str], lines: list[list[str]]) -> str:
    """Markdown; the first column is text."""
    rule = "|---|" + "---:|" * (len(heads) - 1)
    return "\n".join([f"| {' | '.join(heads)} |", rule,
                      *(f"| {' | '.join(line)} |" for line in lines)])  # fmt: skip


def number(value: float | None, form: str = ".1f") -> str:
    """A figure, or "not run"."""
    return "not run" if value is None else format(value, form)


def judged(figure: Figure, ours: str, value: float | None) -> str:
    """A figure and what it is worth."""
    return "not run" if value is None else f"{value:.2f} {verdict(figure, ours, value)}"


def steps(found: dict[str, Any]) -> str:
    """Milliseconds of everyone, and ours against what is wanted."""
    names = cases.names(cases.SHAPES)
    who = ["floor", *OURS, "saelens", "sparsify", "sparsify signum", "dictionary_learning"]
    times, wanted = [], []
    for name, (kind, shape) in names.items():
        one = found.get(name, {}).get("contenders", {})
        taking_part = {each.name for each in cases.contenders(kind, shape, step.BACKENDS)}
        cells = [number(one.get(each, {}).get("median_ms")) if each in taking_part else ""
                 for each in who]  # fmt: skip
        times.append([name, *cells])
        rows = [step.wanted(name, shape, one, ours, growth=False) for ours in OURS]
        for plain, fast in zip(*rows, strict=True):
            label, figure, value = plain
            wanted.append([name, label, judged(figure, "plain", value),
                           judged(figure, "accelerated", fast[2])])  # fmt: skip
    return "\n\n".join([
        "Medians in ms, one whole step; (d_in, d_sae, batch, k).",
        table(["case", *who], times),
        "What is asked of them:",
        table(["case", "figure", *OURS], wanted),
    ])  # fmt: skip


def growth(found: dict[str, Any]) -> str:
    """Milliseconds over d_sae."""
    names = list(cases.names(cases.WIDTHS, ("topk",)))
    measured = [found.get(name, {}).get("contenders", {}) for name in names]
    lines = []
    for who in step.GROWING:
        times = [one.get(who, {}).get("median_ms") for one in measured]
        grown = times[-1] / times[0] if times[0] and times[-1] else None
        last = number(grown)
        if who in OURS:
            last = judged(figures.GROWTH["width"], who, grown)
        lines.append([who, *map(number, times), last])
    widest = [[f"times SAELens' speed at {cases.WIDTHS[-1].d_sae}, {ours}",
               judged(figures.GROWTH["saelens"], ours, ratio(measured[-1], "saelens", ours))]
              for ours in OURS]  # fmt: skip
    heads = ["median ms at d_sae", *(str(one.d_sae) for one in cases.WIDTHS), "last over first"]
    return table(heads, lines) + "\n\n" + table(["figure", "measured"], widest)


def others(run: dict[str, Any], harvest: dict[str, Any]) -> str:
    """Tokens per second of runs; the bare forward over ours."""
    lines = []
    for name, case in run.items() or {"topk": {}}.items():
        found = case.get("contenders", {})
        for ours in OURS:
            rates = [found.get(one, {}).get("tokens_per_second") for one in (ours, "saelens")]
            value = None
            if all(rates):
                value = statistics.median(a / b for a, b in zip(*rates, strict=True))
            rate = statistics.median(rates[0]) if rates[0] else None
            lines.append([f"run, {name}, {ours}", number(rate, ",.0f"),
                          judged(figures.RUN, ours, value)])  # fmt: skip
    for name, case in harvest.items() or {"harvest": {}}.items():
        mine = case.get("ours_ms")
        median = f"{statistics.median(mine):.1f} ms" if mine else "not run"
        said = judged(figures.HARVEST, "plain", case.get("bare_over_ours"))
        lines.append([f"harvest, {name}", median, said])
    return table(["what", "tokens/s or ms", "over SAELens / of the bare forward"], lines)


GPU_LINES = ("rates", "product", "topk", "gather", "sort", "backward", "step", "trainer", "peers",
             "forward", "streams", "parity")  # fmt: skip


def gpu(found: dict[str, Any]) -> str:
    """One line a measurement; the steps' verdicts."""
    lines = []
    for name in GPU_LINES:
        case = found.get(name)
        if case is None or "failed" in case:
            lines.append([name, "not run" if case is None else f"failed: {case['failed']}"])
            continue
        for row in case["rows"]:
            cells = (f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in row.items())  # fmt: skip
            lines.append([name, "; ".join(cells)])
    return table(["line", "measured"], lines)


def sources(found: dict[str, dict[str, Any]]) -> str:
    """Command, machine, versions and load of every case."""
    lines = []
    for what, measured in found.items():
        for name, case in measured.items():
            machine, device = case["machine"], case.get("device", {})
            about = f"{machine['cores']} cores of {machine['cpu']}, threads: {machine['threads']}"
            if "name" in device:
                about += f", {device['name']}"
            versions = next((one["versions"] for one in case.get("contenders", {}).values()
                             if "versions" in one), case.get("versions", device))  # fmt: skip
            lines.append([f"{what}: {name}", case["date"], about, versions.get("torch", "?"),
                          f"{case['load_before'][0]:.1f}", case["commit"]])  # fmt: skip
    if not lines:
        return "Nothing has been run."
    return table(["case", "date", "machine", "torch", "load", "commit"], lines)
