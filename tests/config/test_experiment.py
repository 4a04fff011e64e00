"""The keys of an experiment file, and the combinations that make no sense."""

import pytest

from saecore.config import structure_experiment
from saecore.config.load import load_experiment
from saecore.errors import ConfigError

EXAMPLE = """\
name = "topk"
seed = 0
output = "runs"

[model]
type = "tiny_lm"
hook = "blocks.2.hook_resid_post"
dtype = "float32"
device = "auto"

[dataset]
type = "python_corpus"
context_size = 128
seed = 0
prepend_bos = true
separator = "bos"
concat = true
exclude_special_tokens = false
positions = [0, 128]
held_out = 0.05

[buffer]
tokens = 65_536
model_batch_size = 32

[sae]
architecture = "topk"
d_sae = 2048
k = 32
normalizer = { type = "none" }
dead_latents = { type = "auxk", after_tokens = 500_000 }
dtype = "float32"
init = { type = "tied", decoder_norm = 0.1 }
init_from = "some/directory"
metadata = { note = "anything" }

[training]
tokens = 1_000_000
batch_size = 2048
lr = 3e-4
lr_schedule = { type = "constant", warm_up_steps = 100, decay_steps = 100 }
optimizer = { type = "adam", betas = [0.9, 0.999] }
clip_norm = 1.0
accumulate = 1
loss = "mse"
autocast = false
log_every_steps = 10
bad_numbers = "stop"

[training.checkpoint]
every_steps = 200
keep = 2

[evaluation]
tokens = 32_768
every_tokens = 500_000

[[evaluator]]
type = "loss_recovered"

[[logger]]
type = "mlflow"
tracking_uri = "sqlite:///x.db"
experiment = "x"
"""
"""The example of the design, with the keys that it only mentions."""


@pytest.fixture
def load(tmp_path):
    """A function that loads EXAMPLE with texts replaced."""

    def load(*changes):
        text = EXAMPLE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        file = tmp_path / "topk.toml"
        file.write_text(text)
        return load_experiment(file)[0]

    return load


def problems(load, *changes):
    """The problem lines of the changed example."""
    with pytest.raises(ConfigError) as caught:
        load(*changes)
    return caught.value.problems


def test_every_key_of_the_example_is_accepted(load):
    """The documented example is valid, and its values arrive."""
    experiment = load()
    assert experiment.name == "topk"
    assert experiment.dataset.positions == (0, 128)
    assert experiment.sae.dead_latents.config.after_tokens == 500_000
    assert experiment.sae.metadata == {"note": "anything"}
    assert experiment.training.lr_schedule.config.decay_steps == 100
    assert experiment.training.checkpoint.every_steps == 200
    assert experiment.evaluation.every_tokens == 500_000
    assert [one.name for one in experiment.evaluator] == ["loss_recovered"]
    assert experiment.logger[0].config.tracking_uri == "sqlite:///x.db"


HOOK = 'hook = "blocks.2.hook_resid_post"'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (HOOK, 'hooks = ["blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out"]'),
        (HOOK, HOOK + '\ntarget_hook = "blocks.2.hook_mlp_out"'),
        (HOOK, 'hook = "blocks.1.attn.hook_z"\nhead = 3'),
        (HOOK, 'hook = "transformer.h.2.mlp:in"'),
        ('type = "tiny_lm"', 'type = "huggingface"\nname = "gpt2"\nrevision = "main"'),
        ('device = "auto"', 'device = "cuda:1"'),
        ('device = "auto"', 'device = "mps"'),
        ('dtype = "float32"', 'dtype = "bfloat16"'),
        ('separator = "bos"', 'separator = "eos"'),
        ('separator = "bos"', 'separator = "none"'),
        ('separator = "bos"', "separator = 198"),
        ("exclude_special_tokens = false", "exclude_special_tokens = [0, 1]"),
        ("exclude_special_tokens = false", "exclude_special_tokens = true"),
        ("positions = [0, 128]", "positions = [1, -1]"),
        ("held_out = 0.05", "held_out = 0"),
        ("held_out = 0.05", "held_out = 0.05\nepochs = 3"),
        ("d_sae = 2048", "expansion_factor = 8"),
        ("d_sae = 2048", "expansion_factor = 0.5"),
        ('normalizer = { type = "none" }', 'normalizer = "expected_average_only_in"'),
        ("lr = 3e-4", 'lr = "auto"'),
        ("clip_norm = 1.0", "clip_norm = 0"),
        ("accumulate = 1", "accumulate = 4"),
        ('bad_numbers = "stop"', 'bad_numbers = "skip"'),
        ("tokens = 32_768", "tokens = 0"),
        ('type = "python_corpus"', 'type = "text_files"\npaths = ["a", "b/**/*.txt"]'),
    ],
)
def test_alternatives_of_the_example_are_accepted(load, old, new):
    """Every alternative that the documentation names is valid, and changes the experiment."""
    assert load((old, new)) != load()


def test_the_written_examples_are_valid():
    """The experiments that `saecore init` writes can be loaded."""
    from saecore.cli.init import examples
    from saecore.config.load import load

    files = sorted(examples().rglob("*.toml"))
    assert files
    for file in files:
        load(file)


# -- combinations --------------------------------------------------------------------------


def test_exactly_one_of_hook_and_hooks(load):
    """A model table without a hook, or with both spellings, is refused."""
    start = "model.hook: expected exactly one of hook and hooks, got"
    assert problems(load, (HOOK, "")) == [f"{start} neither"]
    both = f'{start} both: {HOOK}, hooks = ["a"]'
    assert problems(load, (HOOK, HOOK + '\nhooks = ["a"]')) == [both]


def test_exactly_one_of_d_sae_and_expansion_factor(load):
    """The width is given once; the message says which keys there were."""
    start = "sae.d_sae: expected exactly one of d_sae and expansion_factor, got"
    assert problems(load, ("d_sae = 2048", "")) == [f"{start} neither"]
    assert problems(load, ("d_sae = 2048", "d_sae = 2048\nexpansion_factor = 8")) == [
        f"{start} both: d_sae = 2048, expansion_factor = 8.0"
    ]


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "CUDA"])
def test_unknown_device_is_refused(load, device):
    """A device is one of the spellings that exist."""
    (line,) = problems(load, ('device = "auto"', f'device = "{device}"'))
    assert line == (
        f'model.device: expected "auto", "cpu", "mps", "cuda" or "cuda:N", got "{device}"'
    )


@pytest.mark.parametrize("positions", ["[0, 0]", "[5, 5]", "[9, 3]", "[128, 200]", "[-1, 1]"])
def test_positions_must_select_something(load, positions):
    """A range of positions without a position is refused."""
    (line,) = problems(load, ("positions = [0, 128]", f"positions = {positions}"))
    assert line == (
        f"dataset.positions: expected at least one of the 128 positions, got {positions}"
    )


def test_a_run_has_at_least_one_step(load):
    """Fewer tokens than a batch make no step."""
    (line,) = problems(load, ("tokens = 1_000_000", "tokens = 2047"))
    assert line == "training.tokens: expected at least one batch of 2_048 tokens, got 2_047"


def test_accumulate_divides_the_batch(load):
    """A batch is cut into equal parts only."""
    (line,) = problems(load, ("accumulate = 1", "accumulate = 3"))
    assert line == "training.accumulate: expected a divisor of batch_size 2048, got 3"


def test_buffer_holds_a_context(load):
    """A buffer smaller than one context is refused with both numbers."""
    (line,) = problems(load, ("tokens = 65_536", "tokens = 100"))
    assert line == "buffer.tokens: expected at least one context of 128 tokens, got 100"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "a b", "x" * 97, "é", "a\\n"])
def test_name_is_one_directory(load, name):
    """The name of a run can never leave the output directory."""
    (line,) = problems(load, ('name = "topk"', f'name = "{name}"'))
    assert line.startswith("name: expected up to 96 letters, digits")


@pytest.mark.parametrize("name", ["topk", "0", "a.b-c_d", "x" * 96])
def test_ordinary_names_are_accepted(load, name):
    """Letters, digits, dots, dashes and underscores make a name."""
    assert load(('name = "topk"', f'name = "{name}"')).name == name


# -- derived values ------------------------------------------------------------------------


def test_steps_are_whole_batches(load):
    """The number of steps is tokens // batch_size."""
    assert load().training.steps == 488
    assert load(("tokens = 1_000_000", "tokens = 2048")).training.steps == 1


def test_width_from_d_sae_or_expansion_factor(load):
    """The width is d_sae, or the rounded multiple of d_in."""
    assert load().sae.width(256) == 2048
    assert load(("d_sae = 2048", "expansion_factor = 8")).sae.width(256) == 2048
    assert load(("d_sae = 2048", "expansion_factor = 1.5")).sae.width(10) == 15


def test_read_hooks_is_one_or_several(load):
    """Both spellings of hooks give a tuple."""
    assert load().model.read_hooks == ("blocks.2.hook_resid_post",)
    assert load((HOOK, 'hooks = ["a", "b"]')).model.read_hooks == ("a", "b")


def test_targets_are_none_one_or_several(load):
    """The hooks that are reconstructed, where they are others than those that are read."""
    assert load().model.targets == ()
    assert load((HOOK, f'{HOOK}\ntarget_hook = "c"')).model.targets == ("c",)
    several = 'hooks = ["a", "b"]\ntarget_hooks = ["c", "d"]'
    assert load((HOOK, several)).model.targets == ("c", "d")


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            'hooks = ["a", "b"]\ntarget_hooks = ["c"]',
            "model.target_hooks: expected one for each of the 2 hooks of model.hooks, got 1",
        ),
        (
            'hook = "a"\ntarget_hooks = ["c"]',
            "model.target_hooks: expected one for each of the 0 hooks of model.hooks, got 1",
        ),
        (
            'hooks = ["a"]\ntarget_hook = "b"\ntarget_hooks = ["c"]',
            "model.target_hook: expected at most one of target_hook and target_hooks, got both",
        ),
    ],
)
def test_targets_pair_with_hooks(load, keys, line):
    """Several targets come with as many hooks, and in one spelling."""
    assert problems(load, (HOOK, keys)) == [line]


def test_configs_cannot_be_changed(load):
    """An experiment is a value: nothing can change it after it was checked."""
    import attrs

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        load().training.lr = 1.0


def test_python_tables_are_checked_like_files():
    """Tables made in Python go through the same checks, with their own source name."""
    with pytest.raises(ConfigError) as caught:
        structure_experiment({"model": {"type": "tiny_lm", "hook": 3}}, "notebook")
    assert str(caught.value).startswith("notebook: 4 problems\n")
