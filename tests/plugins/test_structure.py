"""Tables become configs strictly, and every problem is reported at once."""

import pytest

from saecore.config import structure_experiment
from saecore.config.load import load_experiment
from saecore.errors import ConfigError
from saecore.plugins.host import Host, use_host


def tables(**changes):
    """The smallest valid experiment; `sae={...}` and the like are laid over its tables."""
    base = {
        "model": {"type": "tiny_lm", "hook": "blocks.2.hook_resid_post"},
        "dataset": {"type": "python_corpus"},
        "sae": {"architecture": "topk", "d_sae": 64, "k": 4},
        "training": {"tokens": 4096, "batch_size": 1024},
    }
    for key, value in changes.items():
        base[key] = {**base.get(key, {}), **value} if isinstance(value, dict) else value
    return base


def problems(given):
    """The problem lines of tables that must be refused."""
    with pytest.raises(ConfigError) as caught:
        structure_experiment(given, "file.toml")
    return caught.value.problems


def only_problem(given):
    """The one problem line of tables that must be refused."""
    lines = problems(given)
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def host():
    """All installed plugins."""
    return Host()


def test_minimal_experiment_is_accepted():
    """The four tables without defaults are enough."""
    experiment = structure_experiment(tables())
    assert experiment.sae.architecture.name == "topk"
    assert experiment.sae.architecture.config.k == 4
    assert experiment.training.optimizer.name == "adam"


# -- unknown keys --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path", "suggestion"),
    [
        (tables(sae={"kk": 3}), "sae.kk", "k"),
        (tables(sae={"d_sea": 3}), "sae.d_sea", "d_sae"),
        (tables(training={"batchsize": 3}), "training.batchsize", "batch_size"),
        (
            tables(training={"lr_schedule": {"type": "constant", "warmup_steps": 3}}),
            "training.lr_schedule.warmup_steps",
            "warm_up_steps",
        ),
        (tables(evaluator=[{"type": "reconstruction", "batchsize": 2}]),
         "evaluator[0].batchsize", "batch_size"),
        (tables(training={"checkpoint": {"every_step": 3}}),
         "training.checkpoint.every_step", "every_steps"),
    ],
)  # fmt: skip
def test_unknown_key_is_refused_with_the_nearest(given, path, suggestion):
    """A key nobody knows is refused at any depth, with the nearest known one."""
    line = only_problem(given)
    assert line.startswith(f'{path}: unknown key; did you mean "{suggestion}"? (known: ')


def test_unknown_key_lists_table_and_component_keys():
    """The known keys of a shared table are those of the table, its component and its tag."""
    line = only_problem(tables(sae={"qqqqqq": 3}))
    assert line.startswith("sae.qqqqqq: unknown key (known: ")
    known = line.removesuffix(")").partition("(known: ")[2].split(", ")
    assert known == sorted(known)
    assert {"architecture", "d_sae", "k", "rescale_acts_by_decoder_norm", "init"} <= set(known)
    assert known.count("architecture") == 1


@pytest.mark.parametrize(("table", "field"), [("model", "backend"), ("dataset", "loader")])
def test_the_inline_field_is_not_a_key(table, field):
    """The Python name of the inline component cannot be written in a file."""
    given = tables()
    given[table][field] = "topk"
    assert only_problem(given).startswith(f"{table}.{field}: unknown key")


def test_key_of_another_component_is_unknown():
    """A setting belongs to the component that declares it, not to its neighbors."""
    line = only_problem(tables(sae={"l1_coefficient": 5.0}))
    assert line.startswith(
        "sae.l1_coefficient: unknown key; topk has no l1_coefficient; architecture = "
    )


def test_a_key_of_one_other_component_names_it():
    """The message names the components that have the key, after the one that was chosen."""
    line = only_problem(tables(model={"name": "gpt2"}))
    assert line == (
        'model.name: unknown key; tiny_lm has no name; type = "huggingface" or "transformer_lens" '
        "has (known: device, dtype, head, hook, hooks, target_hook, target_hooks, type)"
    )


TOP = (
    "(known: buffer, dataset, evaluation, evaluator, extends, logger, model, monitor, name, "
    "output, sae, seed, seeds, sweep, training)"
)
"""The end of messages about keys at the top of a file."""


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"sweeps": {"seed": [1]}}, f"sweeps: unknown key; did you mean [sweep]? {TOP}"),
        ({"seedss": [1]}, f'seedss: unknown key; did you mean "seeds"? {TOP}'),
        ({"extend": "a"}, f'extend: unknown key; did you mean "extends"? {TOP}'),
        ({"trainig": {"tokens": 1}}, f"trainig: unknown key; did you mean [training]? {TOP}"),
        ({"loggers": [{"type": "a"}]}, f"loggers: unknown key; did you mean [[logger]]? {TOP}"),
        ({"k": 4}, f'k: unknown key; did you mean "sae.k"? {TOP}'),
        ({"warm_up_steps": 4}, "warm_up_steps: unknown key; did you mean "
         f'"sae.k_schedule.warm_up_steps" or "training.lr_schedule.warm_up_steps"? {TOP}'),
        ({"tokens": 4}, "tokens: unknown key; did you mean "
         f'"training.tokens" or "buffer.tokens" or "evaluation.tokens"? {TOP}'),
    ],
)  # fmt: skip
def test_unknown_keys_at_the_top_name_the_place(given, line):
    """The keys of files are among the known ones; a key of some table is sent there."""
    assert only_problem(tables(**given)) == line


def test_a_key_in_the_wrong_table_is_sent_to_its_own():
    """A setting of another table is named with its path."""
    line = only_problem(tables(training={"k": 4}))
    assert line.startswith('training.k: unknown key; did you mean "sae.k"? (known: accumulate, ')


# -- types ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("32", '"32"; write 32 without quotes'),
        (3.5, "3.5"),
        (1e6, "1000000.0; write 1_000_000"),
        (True, "true"),
        ([3], "[3]"),
        ({}, "a table"),
    ],
)
def test_integer_fields_take_integers_only(value, shown):
    """Strings, floats, booleans, lists and tables are not integers."""
    line = only_problem(tables(sae={"k": value}))
    assert line == f"sae.k: expected an integer, got {shown}"


@pytest.mark.parametrize(
    ("table", "key", "value", "message"),
    [
        ("training", "autocast", 1, "expected true or false, got 1"),
        ("training", "autocast", "true",
         'expected true or false, got "true"; write true without quotes'),
        ("training", "clip_norm", "1.0",
         'expected a finite number, got "1.0"; write 1.0 without quotes'),
        ("training", "clip_norm", True, "expected a finite number, got true"),
        ("training", "clip_norm", float("nan"), "expected a finite number, got nan"),
        ("training", "clip_norm", float("inf"), "expected a finite number, got inf"),
        ("training", "loss", "mae", 'expected "mse" or "ce" or "kl", got "mae"'),
        ("training", "lr", "fast", 'expected a finite number or "auto", got "fast"'),
        ("training", "checkpoint", 5, "expected a table, got 5"),
        ("model", "hook", 2, 'expected a string, got 2; write "2" with quotes'),
        ("model", "hooks", "blocks.1.hook_resid_post",
         'expected a list, got "blocks.1.hook_resid_post"; write '
         'hook = "blocks.1.hook_resid_post" or hooks = ["blocks.1.hook_resid_post"]'),
        ("model", "hook", ["a", "b"],
         'expected a string, got ["a", "b"]; write hooks = ["a", "b"]'),
        ("model", "dtype", "float64",
         'expected "float32" or "bfloat16" or "float16", got "float64"'),
        ("dataset", "positions", [1, 2, 3], "expected a list of 2, got [1, 2, 3]"),
        ("dataset", "separator", "newline",
         'expected "bos" or "eos" or "sep" or "none" or an integer, got "newline"'),
        ("dataset", "separator", True,
         'expected "bos" or "eos" or "sep" or "none" or an integer, got true'),
        ("dataset", "exclude_special_tokens", 7,
         "expected true or false or a list, got 7; write [7]"),
        ("sae", "metadata", ["a"], 'expected a table, got ["a"]'),
    ],
)  # fmt: skip
def test_wrong_types_say_what_was_expected_and_got(table, key, value, message):
    """A value of the wrong type is refused, never converted."""
    assert only_problem(tables(**{table: {key: value}})) == f"{table}.{key}: {message}"


def test_items_of_lists_are_named_by_index():
    """The path of a wrong item of a list has its index."""
    line = only_problem(tables(dataset={"positions": [0, "9"]}))
    assert line == 'dataset.positions[1]: expected an integer, got "9"; write 9 without quotes'
    line = only_problem(tables(dataset={"exclude_special_tokens": [1, 2.5]}))
    assert line == "dataset.exclude_special_tokens[1]: expected an integer, got 2.5"


def test_whole_numbers_are_numbers():
    """An integer is a valid float and becomes one."""
    lr = structure_experiment(tables(training={"lr": 1})).training.lr
    assert lr == 1.0
    assert isinstance(lr, float)


def test_integer_too_large_for_a_float_is_a_problem():
    """A number beyond the range of floats is reported, not a crash."""
    assert only_problem(tables(training={"lr": 10**400})).startswith(
        'training.lr: expected a finite number or "auto", got 1000'
    )


def test_long_values_are_shortened():
    """A message never repeats pages of a wrong value."""
    line = only_problem(tables(sae={"k": "x" * 1000}))
    assert len(line) < 120
    assert line.endswith("...")


# -- ranges --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key", "value", "message"),
    [
        ("sae", "k", 0, "expected at least 1, got 0"),
        ("sae", "d_sae", -5, "expected at least 1, got -5"),
        ("dataset", "context_size", 1, "expected at least 2, got 1"),
        ("dataset", "held_out", 1.0, "expected a number from 0 to below 1, got 1.0"),
        ("dataset", "held_out", -0.1, "expected a number from 0 to below 1, got -0.1"),
        ("dataset", "epochs", 0, "expected at least 1, got 0"),
        ("model", "head", -1, "expected at least 0, got -1"),
        ("training", "lr", 0.0, "expected more than 0, got 0.0"),
        ("training", "lr", -1e-3, "expected more than 0, got -0.001"),
        ("training", "clip_norm", -1.0, "expected at least 0, got -1.0"),
        ("training", "tokens", 0, "expected at least 1, got 0"),
        ("training", "optimizer", {"type": "adam", "betas": [0.9, 1.0]},
         "expected a number from 0 to below 1, got 1.0"),
        ("training", "checkpoint", {"keep": 1}, "expected at least 2, got 1"),
        ("evaluation", "tokens", -1, "expected at least 0, got -1"),
        ("buffer", "model_batch_size", 0, "expected at least 1, got 0"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(table, key, value, message):
    """A number outside its field's range is refused with the range."""
    line = only_problem(tables(**{table: {key: value}}))
    assert line.startswith(f"{table}.{key}")
    assert line.endswith(f": {message}")


def test_values_at_the_edge_of_a_range_are_accepted():
    """The ends of ranges are what the messages say."""
    experiment = structure_experiment(
        tables(dataset={"held_out": 0, "context_size": 2}, training={"clip_norm": 0}, seed=0)
    )
    assert experiment.dataset.held_out == 0.0
    assert experiment.training.clip_norm == 0.0


def test_auto_learning_rate_is_accepted():
    """The word "auto" stands for a learning rate."""
    assert structure_experiment(tables(training={"lr": "auto"})).training.lr == "auto"


# -- everything at once --------------------------------------------------------------------


def test_all_problems_are_reported_at_once():
    """One look at the errors is enough: every table and every depth is checked."""
    lines = problems(
        tables(
            nme="x",
            seed="0",
            model={"hook": 3},
            dataset={"context_size": 1, "type": "python_corpus"},
            sae={"k": "32", "kk": 1, "dead_latents": "auxx"},
            training={"lr": "x", "lr_schedule": {"type": "constant", "decay_steps": -1}},
            logger=[{"type": "console"}, {"type": "tensorbored"}],
        )
    )
    paths = {line.partition(":")[0] for line in lines}
    assert paths == {
        "nme", "seed", "model.hook", "dataset.context_size", "sae.k", "sae.kk",
        "sae.dead_latents.type", "training.lr", "training.lr_schedule.decay_steps",
        "logger[1].type",
    }  # fmt: skip
    assert len(lines) == len(paths)


def test_message_counts_and_indents_problems():
    """The error is `file: N problems` and one indented line for each."""
    with pytest.raises(ConfigError) as caught:
        structure_experiment(tables(sae={"k": True, "d_sae": "x"}), "file.toml")
    first, *rest = str(caught.value).splitlines()
    assert first == "file.toml: 2 problems"
    assert len(rest) == 2
    assert all(line.startswith("  sae.") for line in rest)
    with pytest.raises(ConfigError) as caught:
        structure_experiment(tables(sae={"k": True}), "file.toml")
    assert str(caught.value).splitlines()[0] == "file.toml: 1 problem"


@pytest.mark.parametrize("table", ["dataset", "sae", "training"])
def test_missing_table_is_named(table):
    """A table without a default must be there."""
    given = tables()
    del given[table]
    assert only_problem(given) == f"{table}: missing; it has no default"


def test_missing_component_setting_is_named():
    """A setting without a default must be there, also a component's own."""
    given = tables()
    del given["sae"]["k"], given["training"]["tokens"]
    assert problems(given) == [
        "sae.k: missing; it has no default",
        "training.tokens: missing; it has no default",
    ]


def test_a_table_that_is_no_table_is_refused():
    """A value where a table belongs is refused."""
    given = tables()
    given["training"] = 3
    assert only_problem(given) == "training: expected a table, got 3"


# -- components ----------------------------------------------------------------------------


def test_unknown_architecture_has_the_documented_message(host):
    """An unknown plugin is reported with the nearest name and those installed."""
    installed = ", ".join(host.names("architecture"))
    assert only_problem(tables(sae={"architecture": "tokp"})) == (
        f'sae.architecture: no architecture named "tokp"; did you mean "topk"? '
        f"(installed: {installed})"
    )


@pytest.mark.parametrize(
    ("table", "key", "kind", "path"),
    [
        ("model", "type", "model", "model.type"),
        ("dataset", "type", "dataset", "dataset.type"),
        ("sae", "normalizer", "normalizer", "sae.normalizer.type"),
        ("sae", "dead_latents", "dead_latents", "sae.dead_latents.type"),
        ("training", "lr_schedule", "schedule", "training.lr_schedule.type"),
        ("training", "optimizer", "optimizer", "training.optimizer.type"),
    ],
)
def test_unknown_plugin_of_any_kind_lists_the_installed(host, table, key, kind, path):
    """Every kind of plugin is looked up by name in the same way."""
    assert only_problem(tables(**{table: {key: "qqqqqqqq"}})) == (
        f'{path}: no {kind} named "qqqqqqqq" (installed: {", ".join(host.names(kind))})'
    )


def test_missing_tag_is_reported_with_the_names(host):
    """A table without its tag says which names it could hold."""
    given = tables()
    del given["sae"]["architecture"]
    line = only_problem(given)
    assert line.startswith("sae.architecture: missing; expected the name of a")
    assert line.endswith(f"(installed: {', '.join(host.names('architecture'))})")


def test_tag_of_the_wrong_type_is_refused():
    """A tag is a name."""
    assert only_problem(tables(model={"type": 3})).startswith("model.type: expected the name of a")
    line = only_problem(tables(training={"optimizer": 3}))
    assert line.startswith("training.optimizer: expected the name of a")
    assert line.endswith(" optimizer or a table with type, got 3")


def test_name_is_short_for_a_table():
    """A bare name and a table with only the tag mean the same."""
    short = structure_experiment(tables(training={"lr_schedule": "cosineannealing"}))
    long = structure_experiment(tables(training={"lr_schedule": {"type": "cosineannealing"}}))
    assert short.training.lr_schedule.name == "cosineannealing"
    assert short == long


def test_names_are_short_in_arrays_too():
    """An array of components takes names and tables."""
    experiment = structure_experiment(
        tables(evaluator=["reconstruction", {"type": "loss_recovered", "batch_size": 3}])
    )
    assert [one.name for one in experiment.evaluator] == ["reconstruction", "loss_recovered"]
    assert experiment.evaluator[1].config.batch_size == 3


def test_array_of_components_may_be_empty_but_must_be_a_list():
    """An empty list means none; a single table is refused with the spelling to use."""
    assert structure_experiment(tables(evaluator=[])).evaluator == ()
    assert only_problem(tables(logger={"type": "mlflow"})) == (
        "logger: expected a list of tables ([[logger]]), got a table"
    )


def test_architecture_name_as_activation_says_what_to_write():
    """A selection rule that belongs to an architecture is redirected to it."""
    given = tables(sae={"architecture": "standard", "activation": "topk"})
    del given["sae"]["k"]
    line = only_problem(given)
    assert line.startswith('sae.activation: "topk" is also an architecture; use ')
    assert line.endswith('; use architecture = "topk"')


def test_components_nest_inside_components():
    """A component's own field can be a component with settings."""
    given = tables(sae={
        "architecture": "standard", "l1_schedule": {"type": "constant", "warm_up_steps": 7},
    })  # fmt: skip
    del given["sae"]["k"]
    config = structure_experiment(given).sae.architecture.config
    assert config.l1_schedule.config.warm_up_steps == 7
    assert config.activation.name == "relu"
    given["sae"]["l1_schedule"]["warm_up_steps"] = "7"
    assert only_problem(given) == (
        'sae.l1_schedule.warm_up_steps: expected an integer, got "7"; write 7 without quotes'
    )


# -- the host that is asked ----------------------------------------------------------------


def test_blocked_plugin_is_not_found(host):
    """A host without a plugin refuses experiments that name it."""
    blocked = Host(block=["architecture.topk"])
    with use_host(blocked), pytest.raises(ConfigError, match='no architecture named "topk"'):
        structure_experiment(tables())


def test_blocked_default_of_a_single_choice_is_reported_at_its_field():
    """A default component that is not there is a problem of the field that wants it."""
    with use_host(Host(block=["optimizer.adam"])), pytest.raises(ConfigError) as caught:
        structure_experiment(tables())
    (line,) = caught.value.problems
    assert line.startswith('training.optimizer.type: no optimizer named "adam"')


def test_blocked_default_of_an_array_is_reported_at_its_field():
    """Defaults of arrays come from the host that is asked, like those of single choices."""
    blocked = Host(block=["evaluator.loss_recovered"])
    with use_host(blocked), pytest.raises(ConfigError) as caught:
        structure_experiment(tables())
    (line,) = caught.value.problems
    assert line.startswith('evaluator[1].type: no evaluator named "loss_recovered"')


def test_checking_imports_nothing_heavy(tmp_path):
    """A file with a wrong key is refused before torch is imported."""
    import subprocess
    import sys

    file = tmp_path / "wrong.toml"
    file.write_text('[model]\ntype = "tiny_lm"\nhok = "x"\n')
    code = (
        "import sys\n"
        "from saecore.config import load_experiment\n"
        "from saecore.errors import ConfigError\n"
        "try:\n"
        f"    load_experiment({str(file)!r})\n"
        "except ConfigError:\n"
        "    print(sorted({'torch', 'transformers', 'mlflow', 'datasets'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_load_experiment_gives_the_experiment_and_its_layers(tmp_path):
    """What is loaded comes with the record of where it came from."""
    file = tmp_path / "one.toml"
    file.write_text(
        '[model]\ntype = "tiny_lm"\nhook = "h"\n[dataset]\ntype = "python_corpus"\n'
        '[sae]\narchitecture = "topk"\nd_sae = 8\nk = 2\n'
        "[training]\ntokens = 10_000\n"
    )
    experiment, layers = load_experiment(file)
    assert experiment.sae.architecture.config.k == 2
    assert layers.label == str(file)
    assert layers.origins["sae.k"] == str(file)
