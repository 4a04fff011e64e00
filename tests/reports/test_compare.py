"""Comparing finished runs: what is read, how seeds are put together, the table, the report."""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import torch
from click.testing import CliRunner

from saecore.cli import cli
from saecore.errors import DataError
from saecore.reports.axes import Axis, tick_text
from saecore.reports.html import write_report
from saecore.reports.labels import labels
from saecore.reports.matplotlib import write_plots
from saecore.reports.plots import plots
from saecore.reports.runs import read_runs
from saecore.reports.seeds import interval, rows
from tests.reports.fabricate import fabricate


@pytest.fixture
def output(tmp_path):
    """Two seeds of one configuration, whose dictionaries are permutations, and another one."""
    directions = torch.eye(8)
    fabricate(tmp_path, "k2-seed0", 0, 4.0, directions)
    fabricate(tmp_path, "k2-seed1", 1, 6.0, directions[[3, 1, 0, 2, 7, 6, 5, 4]])
    fabricate(tmp_path, "k3<b>", 0, 9.0, k=3)
    return tmp_path


def test_seeds_are_one_row(output):
    """Runs that differ only in the seed: mean, Student's interval, dictionaries matched one to one;
    a single run has neither.
    """
    several, single = rows(read_runs([output]))
    assert several.label == "k2"
    assert [one.seed for one in several.runs] == [0, 1]
    assert several.values["l0"].mean == 5.0
    assert several.values["l0"].half == pytest.approx(12.706, rel=1e-4)  # t(0.975, 1) · 1
    assert several.stability.mean == pytest.approx(1.0)
    assert several.values["dead"].mean == 3
    assert (single.label, single.values["l0"].half, single.stability) == ("k3<b>", None, None)
    assert interval([1.0, 2.0, 3.0]).half == pytest.approx(2.4841, rel=1e-4)  # by hand: 4.3027/√3


def test_a_short_run_says_nothing_of_dead_latents(tmp_path):
    """No latent can be dead before the run is longer than the time without firing."""
    short = {"dead_latents": {"type": "none", "after_steps": 1000}}
    fabricate(tmp_path, "short", **short)
    fabricate(tmp_path, "default", dead_latents={"type": "none"})
    assert [one.dead for one in read_runs([tmp_path])] == [None, None]


def test_what_is_read(output, capsys):
    """Runs, sweeps (the present run of each point), and whole outputs; unfinished runs are named,
    a missing place and a damaged run are errors.
    """
    (first,) = (output / "k2-seed0").iterdir()
    (second,) = (output / "k2-seed1").iterdir()
    assert [one.directory for one in read_runs([first, first, output / "k2-seed0"])] == [first]
    points = [{"name": "k2-seed1", "run": second.relative_to(output).as_posix()}, {"name": "new"}]
    (output / "sweep.json").write_text(json.dumps({"points": points}))
    assert [one.directory for one in read_runs([output])] == [second]
    fabricate(output, "half", finished=False)
    with pytest.raises(DataError, match="no finished run; give"):
        read_runs([output / "half"])
    assert "1 runs are not finished" in capsys.readouterr().err
    with pytest.raises(DataError, match="no such directory"):
        read_runs([output / "nonesuch"])
    (first / "evaluation.json").write_text("{}")
    with pytest.raises(DataError, match="saecore verify"):
        read_runs([first])


def test_names_say_what_differs(tmp_path):
    """Runs and rows that share a name are called by the settings in which they differ, those with
    equal settings by their ids; a name that is unique stays.
    """
    fabricate(tmp_path / "a", "same", 0)
    fabricate(tmp_path / "a", "same", 1)
    fabricate(tmp_path / "b", "same", 0, k=3, dead_latents={"type": "auxk"})
    fabricate(tmp_path / "b", "other", 0, k=4)
    runs = read_runs([tmp_path / "a", tmp_path / "b"])
    assert [run.label for run in read_runs([tmp_path / "a"])] == ["same seed=0", "same seed=1"]
    assert runs[2].label == "other"
    assert len({run.label for run in runs}) == 4
    assert not any("2026" in run.label for run in runs)
    assert [row.label for row in rows(runs)] == [
        "same k=2 dead_latents=none",
        "other",
        "same k=3 dead_latents=auxk",
    ]


def test_many_differences_make_a_short_name():
    """Of more than three settings the fewest that tell the runs apart are shown, the architecture
    first; a value that is absent is not shown; keys that end alike say their table.
    """
    base = {"sae.l1": 1.0, "training.lr": 1e-3, "a.x": 1, "b.x": 1, "data.type": "t"}
    topk = {**base, "sae.architecture": "topk", "sae.k": 16}
    lists = [topk, {**topk, "sae.k": 32}, {**base, "sae.architecture": "standard", "sae.c": 0.5}]
    found = labels(
        ["n"] * 3, [{**one, "p.q": i // 2, "p.r": i // 2} for i, one in enumerate(lists)], "123"
    )
    assert found == ["n topk k=16", "n topk k=32", "n standard"]
    assert labels(["n", "n"], [base, {**base, "a.x": 2, "b.x": 3}], "12") == [
        "n a.x=1 b.x=1",
        "n a.x=2 b.x=3",
    ]
    assert labels(["n", "n"], [base, {**base, "data.type": "u"}], "12") == ["n data=t", "n data=u"]
    assert labels(["n", "n", "m"], [base, base, base], "123") == ["n/1", "n/2", "m"]


def test_a_repeated_seed_counts_once(tmp_path, capsys):
    """A run given twice, by whatever path, a copy of it, and a second run with its settings and
    seed add nothing to mean, interval and stability; the newest counts, and a line says so.
    """
    old = fabricate(tmp_path / "a", "k2", 0, l0=4.0)
    again = fabricate(tmp_path / "b", "k2", 0, l0=5.0)
    again = again.rename(again.with_name("20260202-000000-abcd"))
    other = fabricate(tmp_path / "a", "k2", 1, l0=7.0)
    shutil.copytree(other, tmp_path / "copy" / other.name)
    (tmp_path / "link").symlink_to(other, target_is_directory=True)
    everything = [tmp_path, tmp_path / "link", other]
    (row,) = rows(read_runs(everything))
    assert [run.seed for run in row.runs] == [0, 1]
    assert row.runs[0].directory == again
    assert [run.directory for run in row.repeats[:1]] == [old]
    assert row.values["l0"] == interval([5.0, 7.0])
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 2
    assert re.match(f"warning: given more than once, counted once: .*{other.name}", printed[0])
    assert "equal settings and seed count once" in printed[1]
    assert str(old) in printed[1]
    write_report(tmp_path / "report.html", [row], "title")
    assert str(old) in (tmp_path / "report.html").read_text()
    assert rows(read_runs([old, again]))[0].stability is None


def test_a_figure_that_is_not_finite(tmp_path):
    """evaluation.json has null for it: every form shows the run, that figure as not finite, and the
    mean over seeds is not finite either.
    """
    for seed in (0, 1):
        file = fabricate(tmp_path, f"k2-seed{seed}", seed) / "evaluation.json"
        result = json.loads(file.read_text())
        if seed:
            result["figures"]["one"]["ce_loss_score"]["value"] = None
            result["figures"]["one"]["l0"]["value"] = None
        file.write_text(json.dumps(result))
    row = next(line for line in invoke(tmp_path).splitlines() if line.startswith("k2"))
    assert row.split()[4:6] == ["not", "finite"]
    assert "0.5400" in row  # explained variance
    table = json.loads(invoke(tmp_path, "--json"), parse_constant=pytest.fail)
    assert table["rows"][0]["figures"]["l0"] == {"mean": None, "half": None}
    assert "nan" in invoke(tmp_path, "--csv")
    assert "| not finite |" in invoke(tmp_path, "--markdown")
    write_report(tmp_path / "report.html", rows(read_runs([tmp_path])), "title")
    assert not re.search(r'="nan|,nan', (tmp_path / "report.html").read_text())
    assert plots(read_runs([tmp_path]))


def invoke(*args):
    """The output of `saecore compare`."""
    done = CliRunner().invoke(cli, ["compare", *map(str, args)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_forms(output):
    """A terminal's table, Markdown, JSON and CSV have the same numbers; JSON and CSV every setting
    that differs.
    """
    printed = invoke(output).splitlines()
    assert len(printed) == 3
    assert re.search(r"k2 +topk +8 +2 +5\.0 ± 12\.7 ", printed[1])
    lines = invoke(output, "--markdown").splitlines()
    assert lines[0].startswith("| run | architecture | d_sae | seeds | L0 | EV |")
    assert lines[2].split(" | ")[4] == "5.0 ± 12.7"
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    found = json.loads(invoke(output, "--json"))
    assert found["rows"][0]["figures"]["l0"]["mean"] == 5.0
    assert found["rows"][0]["mcc"] == pytest.approx(1.0)
    assert found["differences"]["sae.k"] == {"k2-seed0": 2, "k2-seed1": 2, "k3<b>": 3}
    assert set(found["differences"]) == {"seed", "sae.k"}
    table = list(csv.DictReader(io.StringIO(invoke(output, "--csv"))))
    assert [one["sae.k"] for one in table] == ["2", "2", "3"]
    assert [float(one["l0"]) for one in table] == [4.0, 6.0, 9.0]
    assert json.loads(invoke(output, "--json", "--no-stability"))["rows"][0]["mcc"] is None


class Tags(HTMLParser):
    """Checks that tags are closed in order, and gathers what a page refers to."""

    EMPTY = ("meta", "circle", "line", "polygon")

    def __init__(self):
        super().__init__()
        self.open, self.refers, self.counts = [], [], {}

    def handle_starttag(self, tag, attrs):
        """Opened."""
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.refers += [value for key, value in attrs if key in ("src", "href", "srcset")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Opened and closed."""
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        """Closed."""
        assert self.open.pop() == tag


def test_the_report_is_one_file(output):
    """Well formed, refers to nothing outside, escapes names, says what differs, has the plots, and
    follows the reader's preference for light or dark.
    """
    file = output / "report.html"
    write_report(file, rows(read_runs([output])), "a <title>")
    text = file.read_text()
    page = Tags()
    page.feed(text)
    assert page.open == []
    assert page.refers == []
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "<b>" not in text
    assert "k3&lt;b&gt;" in text
    assert "<td>sae.k</td><td>2</td><td>2</td><td>3</td>" in text
    assert page.counts["svg"] == 6
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_out_must_be_html(output):
    """`--out report.md` is refused before anything is read."""
    from saecore.errors import SaecoreError

    with pytest.raises(SaecoreError, match=r"expected a file that ends in \.html"):
        invoke(output, "--out", "report.md")


@pytest.mark.parametrize("numbers", [[3.0], [0.0, 0.0], [-2.0, 5.0], [1.0, 2000.0], [0.5, 0.51]])
@pytest.mark.parametrize("log", [False, True])
def test_axes_hold_their_numbers(numbers, log):
    """Every number lies on the axis, and so do all of its ticks, of which there are some."""
    axis = Axis.over("x", numbers, log)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(0 <= axis.at(one) <= 1 for one in [*numbers, *ticks])


@pytest.mark.parametrize(
    ("low", "high", "base", "expected"),
    [
        (2, 32, 2, "2 4 8 16 32"),
        (3, 33, 2, "4 8 16 32"),
        (16, 4000, 2, "16 32 64 128 256 512 1024 2048 4096"),
        (1, 16384, 2, "1 4 16 64 256 1024 4096 16384"),
        (0.01, 0.09, 10, "0.01 0.02 0.05 0.1"),
        (1e-4, 2, 10, "0.0001 0.001 0.01 0.1 1"),
        (3, 2e6, 10, "10 100 1k 10k 100k 1M"),
    ],
)
def test_logarithmic_axes(low, high, base, expected):
    """They say so, and their ticks are powers of the base, of ten also 2 and 5 times those."""
    axis = Axis.over("L0", [low, high], log=True, base=base)
    assert axis.log
    assert axis.label == "L0, log scale"
    assert " ".join(map(tick_text, axis.ticks())) == expected


@pytest.mark.parametrize("numbers", [[10.0, 30.0], [4.0, 31.0], [0.0, 100.0], [-1.0, 100.0]])
def test_a_small_range_is_linear(numbers):
    """A factor below eight, or a number that has no logarithm: equal steps, and no such label."""
    axis = Axis.over("L0", numbers, log=True, base=2)
    assert not axis.log
    assert axis.label == "L0"
    steps = [b - a for a, b in pairwise(axis.ticks())]
    assert max(steps) == pytest.approx(min(steps))


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_plots_of_l0_have_powers_of_two(ending, tmp_path):
    """In the report, in pages and in images."""
    for l0 in (2.0, 8.0, 32.0):
        fabricate(tmp_path, f"run{l0:g}", l0=l0, d_sae=int(l0) + 8)
    runs = read_runs([tmp_path])
    files = [tmp_path / f"plots.{ending}"]
    write_plots(files[0], plots(runs), "plots")
    if ending == "html":
        files.append(tmp_path / "report.html")
        write_report(files[1], rows(runs), "title")
    for file in files:
        text = file.read_text()
        ticks = re.findall(r">([\d.]+)</text>|<!-- ([\d.]+) -->", text)
        assert {"2", "4", "8", "16", "32"} <= {first or second for first, second in ticks}
        assert "L0 (active latents per token), log scale" in text
