"""Sweep files become points, all checked, named after what differs."""

import re

import pytest

from saecore.config.load import LoadedExperiment, load_experiment
from saecore.config.load import load as load_file
from saecore.errors import ConfigError
from tests.helpers import MINIMAL


@pytest.fixture
def load(tmp_path):
    """Load a sweep of the minimal experiment."""

    def loaded(text, settings=(), base=MINIMAL):
        file = tmp_path / "s.toml"
        lines = text.splitlines()
        at = next((i for i, one in enumerate(lines) if one.startswith("[")), len(lines))
        file.write_text("\n".join([*lines[:at], base, *lines[at:]]))
        return load_file(file, settings)

    return loaded


def names(sweep):
    """The points' names."""
    return [one.name for one in sweep.points]


def problems(load, *args, **kwargs):
    """The lines of the error."""
    with pytest.raises(ConfigError) as error:
        load(*args, **kwargs)
    return error.value.problems


def test_a_grid_is_every_combination(load):
    """Dotted keys as in --set; the last key varies fastest; points write below the sweep."""
    sweep = load('name = "grid"\n[sweep]\nsae.k = [2, 4]\ntraining.lr = [1e-3, 3e-4]\n')
    assert names(sweep) == ["k2-lr0.001", "k2-lr0.0003", "k4-lr0.001", "k4-lr0.0003"]
    first = sweep.points[0]
    assert (first.experiment.sae.architecture.config.k, first.experiment.training.lr) == (2, 1e-3)
    assert first.experiment.name == "k2-lr0.001"
    assert first.experiment.output == "runs/grid"
    assert str(sweep.directory) == "runs/grid"
    assert first.differs == {"sae.k": 2, "training.lr": 1e-3}


def test_tables_are_the_same_as_dotted_keys(load):
    """`[sweep.sae]` is TOML's other way to write `sae.` under `[sweep]`."""
    assert names(load("[sweep.sae]\nk = [2, 4]\n")) == names(load("[sweep]\nsae.k = [2, 4]\n"))


def test_several_grids(load):
    """`[[sweep]]` tables one after another; a value that is no list is the same for all; a changed
    tag replaces the table whole; a setting that never varies where it is set is not in names.
    """
    sweep = load(
        '[[sweep]]\nsae.architecture = "topk"\nsae.d_sae = [32, 64]\nsae.k = 4\n'
        '[[sweep]]\nsae.d_sae = [32, 64]\nsae.architecture = "standard"\nsae.l1_coefficient = 5.0\n'
    )
    assert names(sweep) == ["topk-d_sae32", "topk-d_sae64", "standard-d_sae32", "standard-d_sae64"]
    assert sweep.points[2].experiment.sae.architecture.name == "standard"
    assert sweep.points[2].differs["sae.l1_coefficient"] == 5.0


def test_seeds_multiply_points(load):
    """`seeds` gives every point once per seed, with or without a sweep."""
    assert names(load("seeds = [0, 1]\n")) == ["seed0", "seed1"]
    sweep = load("seeds = [3, 1]\n[sweep]\nsae.k = [2, 4]\n")
    assert names(sweep) == ["k2-seed3", "k2-seed1", "k4-seed3", "k4-seed1"]
    assert [one.experiment.seed for one in sweep.points] == [3, 1, 3, 1]


def test_names_can_be_given(load):
    """A name stands for what is not varied; what a table varies follows it."""
    sweep = load(
        '[[sweep]]\nname = "small"\nsae.d_sae = 32\n[[sweep]]\nname = "big"\nsae.k = [2, 4]\n'
    )
    assert names(sweep) == ["small", "big-k2", "big-k4"]


def test_lists_and_tables_as_values(load):
    """A value that is a list stands in a list; a table is one value."""
    sweep = load(
        '[sweep]\nmodel.hooks = [["a", "b"], ["c", "d"]]\n'
        'sae.dead_latents = ["none", { type = "auxk", coefficient = 0.5 }]\n',
        base=MINIMAL.replace('hook = "blocks.2.hook_resid_post"\n', ""),
    )
    assert sweep.points[-1].experiment.language_model.hooks == ("c", "d")
    assert names(sweep)[-1] == "c-d-auxk-0.5"


def test_plain_files_are_no_sweep(load, tmp_path):
    """A file of one experiment is loaded as that; a sweep is refused where one is expected."""
    assert isinstance(load(""), LoadedExperiment)
    load("[sweep]\nsae.k = [2]\n")
    with pytest.raises(ConfigError, match=r"saecore show .*s\.toml` lists them"):
        load_experiment(tmp_path / "s.toml")


def test_every_problem_of_every_point(load):
    """All at once, each with its point; what all points share is said once."""
    lines = problems(load, '[sweep]\nsae.kk = [1, 2]\nsae.d_sae = [8, "x"]\ntraining.lr = -1.0\n')
    assert sum("training.lr: " in one for one in lines) == 1
    assert sum("sae.kk: unknown key" in one for one in lines) == 1
    wrong = [one for one in lines if "sae.d_sae" in one]
    assert len(wrong) == 2
    assert all(re.match(r"kk[12]-x: sae\.d_sae: expected an integer", one) for one in wrong)
    assert all("[sweep]" in one for one in lines)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[sweep]\nsae.k = []\n", "sweep.sae.k: expected at least one value"),
        ('[sweep]\n"sae.k" = [1]\n', 'sweep."sae.k": write the key without quotes: sae.k = …'),
        ('[sweep]\noutput = ["a"]\n', "sweep.output: one for the whole sweep"),
        ("[sweep]\n", "sweep: expected at least one setting"),
        ("[sweep]\nname = [1]\n", "sweep.name: expected one name, got [1]"),
        ("seeds = 3\n", "seeds: expected a list such as [0, 1, 2], got 3"),
        ("seeds = [0]\n[sweep]\nseed = [1]\n", "sweep.seed: given by seeds"),
        ("[sweep]\nsae.k = [2, 2]\n", 'sweep: points 1 and 2 are both called "'),
        ('[[sweep]]\nname = "a"\nsae.k = 1\n[[sweep]]\nname = "a"\nsae.k = 2\n',
         'sweep: points 1 and 2 are both called "a"'),
        ('[[sweep]]\nname = "/x"\nsae.k = 1\n', "name: expected up to 96 letters"),
    ],
)  # fmt: skip
def test_bad_sweeps(load, text, line):
    """Each is one line that says what to write."""
    assert problems(load, text)[0].startswith(line)


def test_set_and_sweep(load):
    """--set lies over the file and reaches every point; it cannot silently lose to the sweep."""
    sweep = load("[sweep]\nsae.k = [2, 4]\n", ["sae.d_sae=32", "sweep.sae.k=[8]"])
    assert [one.experiment.sae.d_sae for one in sweep.points] == [32]
    assert sweep.points[0].experiment.sae.architecture.config.k == 8
    (line,) = problems(load, "[sweep]\nsae.k = [2, 4]\n", ["sae.k=8"])
    assert line == "--set sae.k: the sweep sets it; use --set sweep.sae.k=[…]"
