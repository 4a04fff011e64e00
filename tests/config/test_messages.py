"""Configurations as tables, TOML with origins, and the docs of fields."""

import tomllib

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saecore.config import experiment as module
from saecore.config import structure_experiment
from saecore.config.experiment import MONITORS
from saecore.config.layers import Layers
from saecore.config.load import load_experiment
from saecore.config.messages import annotated, chosen, field_docs, flatten, to_tables
from saecore.plugins.host import Host
from tests.helpers import MINIMAL

FULL = (
    MINIMAL
    + """\
lr_schedule = { type = "constant", warm_up_steps = 3 }
optimizer = "adam"
[training.checkpoint]
every_steps = 5
[sae.dead_latents]
type = "auxk"
k_aux = 7
[sae.metadata]
note = "two\\nlines and \\"quotes\\" # no comment"
numbers = [[1, 2], [3]]
nested = { a = 1, b = { c = true } }
[[evaluator]]
type = "reconstruction"
batch_size = 4
[[logger]]
type = "console"
[[logger]]
type = "mlflow"
experiment = "x"
"""
)


@pytest.fixture
def load(tmp_path):
    """A function that loads an experiment from TOML text."""

    def load(text, *set_values, name="one.toml"):
        file = tmp_path / name
        file.write_text(text)
        return load_experiment(file, set_values)

    return load


def without_empty(tables):
    """Tables without empty tables, which TOML output leaves out."""
    if isinstance(tables, dict):
        return {key: without_empty(one) for key, one in tables.items() if one != {}}
    return tables


def comment_of(text, line_start):
    """The origin printed on the only line that starts with some text."""
    (line,) = [one for one in text.splitlines() if one.startswith(line_start)]
    return line.rpartition("# ")[2]


# -- tables --------------------------------------------------------------------------------


def test_tables_of_an_experiment_make_the_same_experiment(load):
    """What is recorded with a run is the experiment, whole."""
    for text in (MINIMAL, FULL):
        experiment, _ = load(text)
        assert structure_experiment(to_tables(experiment)) == experiment


def test_tables_hold_only_what_toml_can_say(load):
    """Values that are None are left out, tuples become lists, components become tables."""
    tables = to_tables(load(FULL)[0])
    assert "head" not in tables["model"]
    assert tables["training"]["optimizer"]["betas"] == [0.9, 0.999]
    assert tables["sae"]["architecture"] == "topk"
    assert tables["sae"]["k"] == 4
    (evaluator,) = tables["evaluator"]
    assert evaluator.items() >= {"type": "reconstruction", "batch_size": 4}.items()
    assert "plugin" not in {key for one in tables.values() if isinstance(one, dict) for key in one}


def _optional(**fields):
    return st.fixed_dictionaries({}, optional=fields)


_size = st.integers(1, 10**6)
_schedule = st.one_of(
    st.sampled_from(["constant", "cosineannealing"]),
    st.builds(lambda n: {"type": "constant", "warm_up_steps": n}, st.integers(0, 99)),
)
_tables = st.fixed_dictionaries(
    {
        "model": st.builds(
            dict.__or__,
            st.sampled_from(
                [{"type": "tiny_lm", "hook": "a"}, {"type": "tiny_lm", "hooks": ["a"]}]
            ),
            _optional(
                target_hook=st.text(max_size=5),
                head=st.integers(0, 9),
                dtype=st.sampled_from(["float32", "bfloat16"]),
                device=st.sampled_from(["auto", "cpu", "cuda:1"]),
            ),
        ),
        "dataset": st.builds(
            dict.__or__,
            st.just({"type": "python_corpus", "context_size": 32}),
            _optional(
                separator=st.one_of(st.sampled_from(["bos", "none"]), st.integers()),
                exclude_special_tokens=st.one_of(st.booleans(), st.lists(st.integers())),
                positions=st.just([1, -1]),
                held_out=st.floats(0, 0.99),
            ),
        ),
        "sae": st.builds(
            dict.__or__,
            st.one_of(
                st.builds(lambda k: {"architecture": "topk", "d_sae": 9, "k": k}, _size),
                st.builds(
                    lambda s, f: {
                        "architecture": "standard",
                        "expansion_factor": f,
                        "l1_schedule": s,
                    },
                    _schedule,
                    st.floats(0.1, 64),
                ),
            ),
            _optional(
                normalizer=st.sampled_from(["none", "expected_average_only_in"]),
                dead_latents=st.one_of(
                    st.just("none"), st.builds(lambda n: {"type": "auxk", "k_aux": n}, _size)
                ),
                metadata=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
            ),
        ),
        "training": st.builds(
            dict.__or__,
            st.just({"tokens": 10**6, "batch_size": 64}),
            _optional(
                lr=st.one_of(st.just("auto"), st.floats(1e-9, 10), st.integers(1, 3)),
                lr_schedule=_schedule,
                accumulate=st.sampled_from([1, 2, 4]),
                checkpoint=_optional(every_steps=_size),
            ),
        ),
    },
    optional={
        "seed": st.integers(0, 2**31),
        "evaluator": st.lists(st.sampled_from(["reconstruction", "loss_recovered"]), max_size=2),
        "logger": st.lists(st.just({"type": "mlflow", "experiment": "x"}), max_size=2),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_tables)
def test_round_trip_of_any_experiment(tables):
    """Whatever can be said in a file survives being recorded and read again."""
    experiment = structure_experiment(tables)
    recorded = to_tables(experiment)
    again = structure_experiment(recorded)
    assert again == experiment
    assert to_tables(again) == recorded
    assert without_empty(tomllib.loads(annotated(experiment, Layers("x")))) == without_empty(
        recorded
    )


# -- annotated -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", [MINIMAL, FULL], ids=["minimal", "full"])
def test_annotated_is_the_resolved_toml(load, text):
    """The printed experiment is TOML, equal to the resolved tables, and can be run itself."""
    experiment, layers = load(text)
    printed = annotated(experiment, layers)
    assert without_empty(tomllib.loads(printed)) == without_empty(to_tables(experiment))
    assert load(printed, name="printed.toml")[0] == experiment


def test_annotated_quotes_keys_that_need_it(load):
    """Tables under keys with spaces or dots stay valid TOML."""
    experiment, layers = load(MINIMAL + '[sae.metadata."a b.c"]\nx = 1\n')
    found = tomllib.loads(annotated(experiment, layers))
    assert found["sae"]["metadata"] == {"a b.c": {"x": 1}}


def test_annotated_says_where_values_come_from(tmp_path):
    """Every line ends with the file, the file it extends, --set, or default."""
    (tmp_path / "base.toml").write_text(MINIMAL)
    file = tmp_path / "top.toml"
    file.write_text('extends = "base.toml"\nname = "top"\n')
    text = annotated(*load_experiment(file, ["sae.k=9"]))
    assert comment_of(text, "name = ") == str(file)
    assert comment_of(text, "hook = ") == "base.toml"
    assert comment_of(text, "k = 9") == "--set"
    assert comment_of(text, "rescale_acts_by_decoder_norm") == "default"
    values = [one for one in text.splitlines() if one and not one.startswith("[")]
    assert all("# " in one for one in values)


def test_annotated_default_inside_a_table_of_the_file(load):
    """A default that stands in a table of the file is still a default."""
    schedule = 'lr_schedule = { type = "cosineannealing", warm_up_steps = 3 }\n'
    experiment, layers = load(MINIMAL + schedule)
    text = annotated(experiment, layers)
    assert comment_of(text, "warm_up_steps = 3").endswith("one.toml")
    assert comment_of(text, "end = 0.1") == "default"


def test_annotated_origin_inside_arrays(load):
    """Values of an array of tables have the origin of the array, and its defaults `default`."""
    experiment, layers = load(MINIMAL + '[[logger]]\ntype = "mlflow"\nexperiment = "x"\n')
    text = annotated(experiment, layers)
    assert comment_of(text, 'type = "mlflow"').endswith("one.toml")
    assert comment_of(text, 'experiment = "x"').endswith("one.toml")
    assert comment_of(text, 'type = "reconstruction"') == "default"


def test_annotated_origin_of_a_short_name(load):
    """A component named in the short spelling has the origin of the name."""
    experiment, layers = load(MINIMAL, "training.lr_schedule=cosineannealing")
    text = annotated(experiment, layers)
    assert comment_of(text, 'type = "cosineannealing"') == "--set"


# -- helpers -------------------------------------------------------------------------------


def test_flatten_gives_dotted_paths():
    """Leaves have the path that --set and error messages use; tables of arrays have an index."""
    tables = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 2}, {"e": 3}], "f": []}
    assert dict(flatten(tables)) == {"a.b": 1, "a.c": [1, 2], "d[0].e": 2, "d[1].e": 3, "f": []}


def test_chosen_finds_components_at_any_depth(load):
    """Every component of an experiment is found, also inside another component."""
    text = MINIMAL.replace('"topk"', '"standard"').replace("k = 4\n", "")
    names = {f"{one.kind}.{one.name}" for one in chosen(load(text)[0])}
    assert {
        "model.tiny_lm", "dataset.python_corpus", "architecture.standard", "activation.relu",
        "normalizer.none", "dead_latents.none", "schedule.constant", "optimizer.adam",
        "evaluator.reconstruction", "evaluator.loss_recovered",
        *(f"monitor.{name}" for name in MONITORS),
    } == names  # fmt: skip


CLASSES = [
    one
    for one in vars(module).values()
    if isinstance(one, type) and attrs.has(one) and one.__module__ == module.__name__
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda one: one.__name__)
def test_every_experiment_field_is_documented(cls):
    """Every key of the core's tables has its line of documentation."""
    docs = field_docs(cls)
    assert {one.name for one in attrs.fields(cls) if not docs.get(one.name)} == set()


@pytest.mark.parametrize("provider", Host().providers, ids=lambda one: one.full_name)
def test_every_component_field_is_documented(provider):
    """Every setting of every installed component has its line of documentation."""
    component = Host().component(provider.kind, provider.name)
    docs = field_docs(component.config)
    missing = {one.name for one in attrs.fields(component.config) if not docs.get(one.name)}
    assert missing == set()
    assert component.summary


def test_field_docs_include_inherited_fields():
    """Docs of a base class's fields are found through the subclass, on one line."""
    config = Host().component("architecture", "topk").config
    docs = field_docs(config)
    assert docs["apply_b_dec_to_input"] == "Subtract the decoder bias from the input."
    assert docs["k"] == "Active latents per token."
