"""A stranger's package, installed for real: its plugins are used like built-in ones."""

import json

import pytest

from tests.strangers import TIED, Environment

EXPERIMENT = """\
name = "tied"
[model]
type = "tiny_lm"
hook = "blocks.1.hook_resid_post"
device = "cpu"
[dataset]
type = "text_files"
paths = ["text"]
context_size = 32
held_out = 0.2
[buffer]
tokens = 1024
model_batch_size = 16
[sae]
architecture = "tied"
d_sae = 64
l1_coefficient = 0.5
activation = { type = "shrink", by = 0.2 }
normalizer = { type = "expected_average_only_in", tokens = 256 }
[training]
tokens = 4096
batch_size = 256
lr = 3e-3
checkpoint = { every_steps = 8 }
[evaluation]
tokens = 512
"""

LOADED = """
import json, torch
from saecore import SAE
sae = SAE.load_from_disk({directory!r})
x = torch.randn(2, 3, sae.cfg.d_in)
features = sae.encode(x)
assert torch.allclose(sae.decode(features), sae(x), atol=1e-4)
again = sae.save_model("again")
assert torch.equal(SAE.load_from_disk("again").encode(x), features)
print(json.dumps([type(sae).__module__, sae.cfg.architecture, sae.cfg.activation.config.by,
                  list(features.shape)]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with an experiment and some text."""
    directory = tmp_path_factory.mktemp("stranger")
    (directory / "text").mkdir()
    for i in range(25):
        lines = [f"def f{i}_{j}(x, y):\n    return x * {j} + y - {i}\n" for j in range(40)]
        (directory / "text" / f"{i}.py").write_text("\n".join(lines))
    (directory / "tied.toml").write_text(EXPERIMENT)
    return directory


@pytest.fixture(scope="module")
def installed(place):
    """An environment with the package."""
    environment = Environment(place / "env", place / "cache")
    environment.install(TIED, place)
    return environment


def test_the_code_is_short():
    """A stranger needs two files and fewer than 60 lines."""
    files = list((TIED / "saecore_tied").glob("*.py"))
    assert len(files) == 2
    assert sum(len(file.read_text().splitlines()) for file in files) < 60


@pytest.mark.slow
def test_listed_and_described(installed, place):
    """`saecore plugins` names distribution and version; the settings are shown with their docs."""
    rows = json.loads(installed.run("saecore plugins --json", place).stdout)
    found = {f"{one['kind']}.{one['name']}": one for one in rows}
    for name in ("architecture.tied", "activation.shrink"):
        assert (found[name]["distribution"], found[name]["version"]) == ("saecore-tied", "0.3.0")
    page = installed.run("saecore plugins tied", place).stdout
    assert page.startswith("architecture.tied (saecore-tied 0.3.0): ")
    assert "  l1_coefficient: float (default 1.0)\n      Weight of the sparsity penalty." in page
    refused = installed.run("saecore check tied.toml --set sae.l1_coeff=2", place, check=False)
    assert refused.returncode == 2
    assert 'sae.l1_coeff: unknown key; did you mean "l1_coefficient"?' in refused.stdout


@pytest.mark.slow
def test_trained_saved_loaded_evaluated(installed, place):
    """Trained from TOML with a built-in normalizer, checkpointed, evaluated, recorded with its
    distribution and version; what was saved loads with the same features.
    """
    printed = installed.run("saecore run tied.toml", place).stdout
    assert "plugins from: saecore-tied 0.3.0" in printed
    (directory,) = (place / "runs" / "tied").iterdir()
    record = json.loads((directory / "experiment.json").read_text())
    assert record["plugins"]["architecture.tied"] == "saecore-tied 0.3.0"
    assert record["plugins"]["activation.shrink"] == "saecore-tied 0.3.0"
    figures = json.loads((directory / "evaluation.json").read_text())["figures"]
    assert figures["reconstruction"]["l0"]["value"] > 0
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").open()]
    losses = [one["losses/overall_loss"] for one in lines if "losses/overall_loss" in one]
    assert losses[-1] < losses[0]
    assert "losses/l1_loss" in lines[0]
    assert len(list((directory / "checkpoints").iterdir())) == 2
    program = LOADED.format(directory=str(directory / "sae"))
    loaded = installed.run([installed.python, "-c", program], place).stdout
    assert json.loads(loaded) == ["saecore_tied.sae", "tied", 0.2, [2, 3, 64]]


@pytest.mark.slow
def test_resumed(installed, place):
    """A run that went half the way and is resumed ends with the same weights as one in one go."""
    installed.run("saecore run tied.toml --set output=whole", place)
    installed.run("saecore run tied.toml --set output=parts --set training.tokens=2048", place)
    (half,) = (place / "parts" / "tied").iterdir()
    installed.run(f"saecore run tied.toml --set output=parts --resume {half}", place)
    (whole,) = (place / "whole" / "tied").iterdir()
    saved = [one / "sae" / "sae_weights.safetensors" for one in (half, whole)]
    assert saved[0].read_bytes() == saved[1].read_bytes()


@pytest.mark.slow
def test_gone_again(installed, place):
    """Without its plugin the experiment is refused by name, in one line; nothing else changes."""
    refused = installed.run("saecore --block saecore-tied run tied.toml", place, check=False)
    assert refused.returncode == 2
    assert 'sae.architecture: no architecture named "tied"' in refused.stdout
    assert "Traceback" not in refused.stdout
