"""Comparing finished runs: what is read, how seeds are put together, the table, the report."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from click.testing import CliRunner

from saecore.cli import cli
from saecore.errors import DataError
from saecore.reports.axes import Axis
from saecore.reports.html import write_report
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


def test_two_runs_of_one_name(output):
    """They are told apart by their ids."""
    fabricate(output, "twice", 0)
    fabricate(output, "twice", 1)
    labels = [one.label for one in read_runs([output / "twice"])]
    assert labels == ["twice/20260101-000000-abcd", "twice/20260101-000001-abcd"]


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
