"""Files, what they extend, and `--set`: which value wins and where it came from."""

import json

import pytest

from saecore.config.layers import read_layers
from saecore.config.load import load_experiment
from saecore.config.messages import to_tables
from saecore.errors import ConfigError
from tests.helpers import MINIMAL


@pytest.fixture
def write(tmp_path):
    """A function that writes a file and returns its path."""

    def write(name, text):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def problems(file, *settings):
    """The problem lines of a file that must be refused."""
    with pytest.raises(ConfigError) as caught:
        load_experiment(file, settings)
    assert caught.value.label == str(file)
    return caught.value.problems


# -- extends -------------------------------------------------------------------------------


def test_extends_lays_a_file_over_another(write):
    """Values of the file win over those of the file it extends."""
    write("base.toml", MINIMAL)
    file = write("top.toml", 'extends = "base.toml"\n[sae]\nk = 8\n')
    experiment, layers = load_experiment(file)
    assert experiment.sae.architecture.config.k == 8
    assert experiment.sae.d_sae == 64
    assert layers.origins["sae.k"] == str(file)
    assert layers.origins["sae.d_sae"] == "base.toml"


def test_extends_list_is_applied_in_order(write):
    """Later files of a list win over earlier ones."""
    write("base.toml", MINIMAL)
    write("wide.toml", "[sae]\nd_sae = 128\nk = 16\n")
    write("sparse.toml", "[sae]\nk = 2\n")
    file = write("top.toml", 'extends = ["base.toml", "wide.toml", "sparse.toml"]\n')
    experiment, layers = load_experiment(file)
    assert (experiment.sae.d_sae, experiment.sae.architecture.config.k) == (128, 2)
    assert layers.origins["sae.d_sae"] == "wide.toml"
    assert layers.origins["sae.k"] == "sparse.toml"


def test_extends_is_relative_to_the_file(write, monkeypatch, tmp_path):
    """Chains of files are found from where each one lies, not from the current directory."""
    write("bases/deep/root.toml", MINIMAL)
    write("bases/middle.toml", 'extends = "deep/root.toml"\n[sae]\nk = 5\n')
    file = write("runs/top.toml", 'extends = "../bases/middle.toml"\n')
    monkeypatch.chdir(tmp_path.parent)
    assert load_experiment(file)[0].sae.architecture.config.k == 5


def test_extends_cycle_is_an_error(write):
    """Files that extend each other are refused, with the chain."""
    write("a.toml", 'extends = "b.toml"\n')
    write("b.toml", 'extends = "a.toml"\n')
    (line,) = problems(write("start.toml", 'extends = "a.toml"\n'))
    assert line == "extends: a file extends itself: start.toml -> a.toml -> b.toml -> a.toml"


def test_extending_itself_is_an_error(write):
    """A file cannot extend itself."""
    (line,) = problems(write("a.toml", 'extends = "a.toml"\n'))
    assert line.startswith("extends: a file extends itself")


def test_the_same_base_twice_is_no_cycle(write):
    """Two files may share a base."""
    write("base.toml", MINIMAL)
    write("a.toml", 'extends = "base.toml"\n[sae]\nk = 5\n')
    write("b.toml", 'extends = "base.toml"\n')
    file = write("top.toml", 'extends = ["a.toml", "b.toml"]\n')
    assert load_experiment(file)[0].sae.architecture.config.k == 4


@pytest.mark.parametrize("value", ["3", "[1, 2]", '{ file = "a.toml" }'])
def test_extends_of_the_wrong_type_is_an_error(write, value):
    """Extends takes a file name or a list of them."""
    (line,) = problems(write("a.toml", f"extends = {value}\n"))
    assert line == "extends: expected a file name or a list of them"


def test_missing_base_is_named(write):
    """A file that extends a missing one says which one is missing."""
    (line,) = problems(write("a.toml", 'extends = "nonesuch.toml"\n'))
    assert "nonesuch.toml: no such file" in line


# -- merging -------------------------------------------------------------------------------


def test_tables_merge_key_by_key(write):
    """A table of the same tag is merged, not replaced."""
    write("base.toml", MINIMAL + 'lr_schedule = { type = "constant", warm_up_steps = 7 }\n')
    file = write(
        "top.toml",
        'extends = "base.toml"\n[training]\nlr_schedule = { type = "constant", decay_steps = 3 }\n',
    )
    schedule = load_experiment(file)[0].training.lr_schedule.config
    assert (schedule.warm_up_steps, schedule.decay_steps) == (7, 3)


@pytest.mark.parametrize("spelling", ['{ type = "cosineannealing" }', '"cosineannealing"'])
def test_changed_tag_replaces_the_table_whole(write, spelling):
    """Settings of one component never leak into another one."""
    write("base.toml", MINIMAL + 'lr_schedule = { type = "constant", warm_up_steps = 7 }\n')
    file = write("top.toml", f'extends = "base.toml"\n[training]\nlr_schedule = {spelling}\n')
    experiment, layers = load_experiment(file)
    assert experiment.training.lr_schedule.name == "cosineannealing"
    assert experiment.training.lr_schedule.config.warm_up_steps == 0
    assert "training.lr_schedule.warm_up_steps" not in layers.origins


def test_changed_architecture_replaces_the_sae_table_whole(write):
    """Another architecture starts from an empty [sae], so no key of the old one is left."""
    write("base.toml", MINIMAL)
    file = write(
        "top.toml", 'extends = "base.toml"\n[sae]\narchitecture = "standard"\nd_sae = 32\n'
    )
    experiment, layers = load_experiment(file)
    assert experiment.sae.architecture.name == "standard"
    assert layers.tables["sae"] == {"architecture": "standard", "d_sae": 32}
    assert "sae.k" not in layers.origins


def test_settings_can_be_added_to_a_short_name(write):
    """`"constant"` is short for `{ type = "constant" }`, also when settings are laid over it."""
    file = write("a.toml", MINIMAL + 'lr_schedule = "constant"\n')
    experiment, _ = load_experiment(file, ["training.lr_schedule.warm_up_steps=5"])
    assert experiment.training.lr_schedule.config.warm_up_steps == 5


def test_arrays_are_replaced(write):
    """A list in a later layer replaces the earlier one."""
    write("base.toml", MINIMAL + '[[evaluator]]\ntype = "reconstruction"\n')
    file = write("top.toml", 'extends = "base.toml"\n[[evaluator]]\ntype = "loss_recovered"\n')
    assert [one.name for one in load_experiment(file)[0].evaluator] == ["loss_recovered"]


# -- origins in errors ---------------------------------------------------------------------


def test_problem_of_an_extended_file_names_it(write):
    """A wrong value says which file it stands in, when that is not the file given."""
    write("base.toml", MINIMAL.replace("k = 4", "k = 3.5"))
    file = write("top.toml", 'extends = "base.toml"\n[training]\nlr = "x"\n')
    lines = problems(file, "sae.kk=3")
    assert "sae.k: expected an integer, got 3.5 [base.toml]" in lines
    assert 'training.lr: expected a finite number or "auto", got "x"' in lines
    (unknown,) = [line for line in lines if line.startswith("sae.kk")]
    assert unknown.endswith(" [--set]")
    assert len(lines) == 3


def test_problem_of_a_setting_names_it(write):
    """A wrong value given by --set says so."""
    file = write("a.toml", MINIMAL)
    assert problems(file, 'sae.k="32"') == [
        'sae.k: expected an integer, got "32"; write 32 without quotes [--set]'
    ]


def test_a_setting_whose_quotes_the_shell_took(write):
    """A list or table that arrives as a string: the message says how to quote it."""
    file = write("a.toml", MINIMAL)
    assert problems(file, "logger=[{type=mlflow}]") == [
        'logger: expected a list of tables ([[logger]]), got "[{type=mlflow}]"; '
        "quote it for the shell: --set 'logger=[…]' [--set]"
    ]
    (line,) = problems(file, "training.checkpoint={keep: 3}")
    assert line.endswith("quote it for the shell: --set 'training.checkpoint={…}' [--set]")


def test_problem_of_an_extended_array_names_the_file(write):
    """A wrong value inside an array of tables says which file it stands in."""
    write("base.toml", MINIMAL + '[[evaluator]]\ntype = "reconstruction"\nbatch_size = "3"\n')
    file = write("top.toml", 'extends = "base.toml"\n')
    assert problems(file) == [
        'evaluator[0].batch_size: expected an integer, got "3"; write 3 without quotes [base.toml]'
    ]


def test_unknown_short_name_names_its_layer(write):
    """A component named in the short spelling has the origin of that value."""
    file = write("a.toml", MINIMAL)
    (line,) = problems(file, "training.optimizer=adm")
    assert line.startswith('training.optimizer.type: no optimizer named "adm"; did you mean "adam"')
    assert line.endswith(" [--set]")


# -- --set ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("sae.k=64", "sae.k", 64),
        ("sae.k = 64", "sae.k", 64),
        ("training.lr=1e-3", "training.lr", 1e-3),
        ("training.lr=auto", "training.lr", "auto"),
        ('training.lr="auto"', "training.lr", "auto"),
        ("training.autocast=true", "training.autocast", True),
        ("training.tokens=20_000", "training.tokens", 20_000),
        ("model.hook=blocks.1.hook_mlp_out", "model.hook", "blocks.1.hook_mlp_out"),
        ("name=a-b", "name", "a-b"),
        ("output=/tmp/a=b", "output", "/tmp/a=b"),
        ("dataset.positions=[1, -1]", "dataset.positions", [1, -1]),
        ("logger=[]", "logger", []),
        ("sae.metadata.note=hello world", "sae.metadata", {"note": "hello world"}),
    ],
)
def test_set_reads_toml_or_else_a_string(write, setting, path, value):
    """The value of --set is TOML; what is not TOML is a string."""
    experiment, layers = load_experiment(write("a.toml", MINIMAL), [setting])
    found = to_tables(experiment)
    for key in path.split("."):
        found = found[key]
    assert found == value
    assert type(found) is type(value)
    assert layers.origins[path] == "--set"


def test_set_of_a_table_merges(write):
    """An inline table given by --set is laid over the file's table."""
    file = write("a.toml", MINIMAL)
    experiment, _ = load_experiment(file, ["sae={k=7}", 'training.lr_schedule={type="constant"}'])
    assert experiment.sae.architecture.config.k == 7
    assert experiment.sae.d_sae == 64


def test_last_set_wins(write):
    """Settings are applied in order."""
    file = write("a.toml", MINIMAL)
    assert load_experiment(file, ["sae.k=2", "sae.k=3"])[0].sae.architecture.config.k == 3


@pytest.mark.parametrize("setting", ["sae.k", "=3", "sae..k=3", ".k=3", "sae.=3", " =3"])
def test_malformed_set_is_an_error(write, setting):
    """A setting that is not key=value is refused with an example."""
    (line,) = problems(write("a.toml", MINIMAL), setting)
    assert line == f"--set {setting}: expected key=value, such as sae.k=64"


def test_set_without_a_value_is_an_empty_string(write):
    """Nothing after the equals sign is the empty string, refused by its field."""
    (line,) = problems(write("a.toml", MINIMAL), "sae.k=")
    assert line == 'sae.k: expected an integer, got "" [--set]'


@pytest.mark.parametrize("text", ["[" * 20_000, "9" * 5000], ids=["nested", "digits"])
def test_set_beyond_the_parser_is_an_error(write, text):
    """A value that the TOML parser gives up on is a problem of --set, not a traceback."""
    assert len(problems(write("a.toml", MINIMAL), f"sae.k={text}")) == 1


def test_set_is_one_value(write):
    """A line break does not smuggle in other keys: what is not one TOML value is a string."""
    (line,) = problems(write("a.toml", MINIMAL), "sae.k=1\nvalue2 = 3")
    assert line.startswith('sae.k: expected an integer, got "1')


# -- sweeps --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['[sweep]\n"sae.k" = [1, 2]\n', "[[sweep]]\nx = 1\n"])
def test_sweep_is_a_typed_error(write, text):
    """A sweep is refused where one experiment is expected, not as an unknown key."""
    (line,) = problems(write("a.toml", MINIMAL + text))
    assert line.startswith("sweep: expected one experiment")


# -- files ---------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    """A missing file is named, with the command that writes examples."""
    file = tmp_path / "nonesuch.toml"
    assert problems(file) == ["no such file (`saecore init` writes example experiments)"]


def test_directory_instead_of_a_file(tmp_path):
    """A directory is refused in one line."""
    (line,) = problems(tmp_path)
    assert line.startswith("cannot be read: ")


def test_file_that_is_not_toml(write):
    """A syntax error is reported with its line."""
    (line,) = problems(write("a.toml", "[model\nk = 3\n"))
    assert line.startswith("line 1: the name of a table has no closing ]\n")


def test_file_that_is_not_utf8(write):
    """Bytes that are not UTF-8 are reported, not a traceback."""
    (line,) = problems(write("a.toml", b'name = "\xff\xfe"\n'))
    assert line == "cannot be read: it is not UTF-8 text"


def test_deeply_nested_file_is_refused(write):
    """A file that nests beyond reason is refused in one line."""
    (line,) = problems(write("a.toml", "x = " + "[" * 20_000 + "]" * 20_000 + "\n"))
    assert line.startswith("cannot be parsed: ")


def test_byte_order_mark_is_ignored(write):
    """Files saved by Windows editors are read."""
    file = write("a.toml", b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_experiment(file)[0].sae.architecture.config.k == 4


def test_windows_line_ends_are_read(write):
    """CRLF files mean the same."""
    file = write("a.toml", MINIMAL.replace("\n", "\r\n").encode())
    assert load_experiment(file)[0] == load_experiment(write("b.toml", MINIMAL))[0]


def test_experiment_json_of_a_run_is_accepted(write):
    """The record of a run is an experiment file; other keys of the record are left alone."""
    experiment, _ = load_experiment(write("a.toml", MINIMAL))
    record = {"experiment": to_tables(experiment), "model": {"name": "tiny_lm"}, "torch": "2"}
    file = write("run/experiment.json", json.dumps(record))
    again, layers = load_experiment(file, ["sae.k=9"])
    assert again.sae.architecture.config.k == 9
    assert load_experiment(file)[0] == experiment
    assert layers.origins["sae.d_sae"] == str(file)


@pytest.mark.parametrize("text", ["[]", "{}", '{"experiment": 3}', "{", "nonsense"])
def test_other_json_is_refused(write, text):
    """JSON that is not the record of a run is refused in one line."""
    (line,) = problems(write("a.json", text))
    assert line.startswith("cannot be parsed: ")


def test_experiment_json_can_be_extended(write):
    """A file can start from the record of a run."""
    experiment, _ = load_experiment(write("a.toml", MINIMAL))
    write("run/experiment.json", json.dumps({"experiment": to_tables(experiment)}))
    file = write("top.toml", 'extends = "run/experiment.json"\n[sae]\nk = 6\n')
    assert load_experiment(file)[0].sae.architecture.config.k == 6


def test_read_layers_needs_no_valid_experiment(write):
    """Reading and checking are separate: layers of a wrong experiment can be read."""
    layers = read_layers(write("a.toml", "[a.b]\nc = 1\n"), ["a.b.d=x"])
    assert layers.tables == {"a": {"b": {"c": 1, "d": "x"}}}
    assert layers.origins["a.b.d"] == "--set"
