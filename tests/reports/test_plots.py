"""`saecore plot`: the figures of runs, and the files they are drawn into."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from safetensors.numpy import save_file

from saecore.cli import main
from saecore.reports.matplotlib import COLORS
from saecore.reports.page import BASE
from saecore.reports.plots import plots
from saecore.reports.runs import read_runs
from tests.reports.fabricate import fabricate


@pytest.fixture
def runs(tmp_path):
    """Three runs, one of them with the densities of its latents; names that mean something."""
    fabricate(tmp_path, "a$b$", l0=2.0)
    fabricate(tmp_path, "<img src=x>", l0=4.0)
    last = fabricate(tmp_path, "c", l0=32.0)
    densities = np.log10(np.array([0.5, 0.5, 0.05, 1e-10, 1e-10, 1e-10, 1e-3, 1.0]))
    save_file({"sparsity": densities.astype(np.float32)}, last / "sae/sparsity.safetensors")
    return tmp_path


def test_what_is_plotted(runs):
    """Curves hold what was logged, the histogram every latent, points the held-out figures."""
    found = {one.title: one for one in plots(read_runs([runs]))}
    assert list(found) == [
        "Explained variance in training",
        "L0 in training",
        "Dead latents in training",
        "Density of latents",
        "Explained variance against L0",
        "CE loss score against L0",
    ]  # the loss was never a number
    curve = next(one for one in found["L0 in training"].series if one.name == "c")
    assert [(mark.x, mark.y) for mark in curve.marks] == [(500, 64.0), (1000, 32.0)]
    (density,) = found["Density of latents"].series
    assert sum(mark.y for mark in density.marks) == 2 * 8  # both corners of every bin
    points = found["Explained variance against L0"].series
    got = {one.name: (one.marks[0].x, round(one.marks[0].y, 9)) for one in points}
    assert got == {"a$b$": (2.0, 0.52), "<img src=x>": (4.0, 0.54), "c": (32.0, 0.82)}
    assert len({(one.color, one.dash) for one in points}) == 3


def test_one_run_has_no_frontier(runs):
    """Sparsity against reconstruction needs several runs."""
    found = plots(read_runs([runs / "c"]))
    assert not any(one.points for one in found)


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_files(ending, runs, tmp_path, capsys):
    """Each format is written, twice with the same bytes; names of runs are text in all."""
    files = [tmp_path / f"{name}.{ending}" for name in ("one", "two")]
    for file in files:
        with pytest.raises(SystemExit) as ended:
            main(["plot", str(runs), "--out", str(file), "--title", "plots"])
        assert ended.value.code == 0
        assert capsys.readouterr().out == f"wrote {file}: 3 runs\n"
    first = files[0].read_bytes()
    assert first == files[1].read_bytes()
    if ending == "png":
        assert first.startswith(b"\x89PNG")
    elif ending == "svg":
        assert ElementTree.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
    else:
        text = first.decode()
        assert len(re.findall("<svg", text)) == 6
        assert "<img" not in text
        assert "&lt;img src=x&gt;" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.pdf"], "--out x.pdf: expected a file that ends in .png, .svg, .html"),
        (["nowhere"], "nowhere: no such directory"),
        (["."], "sparsity.safetensors: cannot be read"),
    ],
)
def test_errors(words, message, runs, monkeypatch, capsys):
    """Each is one line."""
    monkeypatch.chdir(runs)
    (next(runs.glob("c/*")) / "sae/sparsity.safetensors").write_bytes(b"damaged")
    with pytest.raises(SystemExit) as ended:
        main(["plot", "c", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_one_palette():
    """Files have the colors of pages on white."""
    style = BASE.read_text()
    assert tuple(re.search(rf"--s{i}: (#\w+);", style)[1] for i in range(8)) == COLORS
