"""Code that comes with a model runs only when the caller says so, never because of a file."""

import json
import sys

import pytest
import torch
import transformers
from click.testing import CliRunner

from saecore import config
from saecore.cli import cli
from saecore.errors import ConfigError, ModelError
from saecore.runs import run
from saecore.storage.remote_code import remote_code, remote_code_allowed
from saecore_plugins.models import huggingface, transformer_lens
from tests.models.tiny import TOKENS, make, tokenizer

MODULE = """\
import pathlib

pathlib.Path({canary!r}).touch()

from transformers import GPT2Config, GPT2LMHeadModel


class CanaryConfig(GPT2Config):
    model_type = "coalmine"


class CanaryModel(GPT2LMHeadModel):
    config_class = CanaryConfig
"""

EXPERIMENT = """\
[model]
type = "huggingface"
name = "{directory}"
hook = "transformer.h.1"
[dataset]
type = "text_files"
paths = ["{text}"]
context_size = 16
prepend_bos = false
separator = "none"
[buffer]
tokens = 64
model_batch_size = 2
[sae]
architecture = "topk"
d_sae = 64
k = 4
[training]
tokens = 128
batch_size = 64
[evaluation]
tokens = 0
"""


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A model whose files include a module; the file that it writes when it is imported."""
    modules = str(tmp_path / "modules")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    directory, written = tmp_path / "model", tmp_path / "it-ran"
    model = make("gpt2")
    model.resize_token_embeddings(4096)
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    settings = json.loads((directory / "config.json").read_text())
    settings["model_type"] = "coalmine"
    settings["auto_map"] = {
        "AutoConfig": "code.CanaryConfig", "AutoModelForCausalLM": "code.CanaryModel",
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(settings))
    (directory / "code.py").write_text(MODULE.format(canary=str(written)))
    text = tmp_path / "text.txt"
    text.write_text("def f(x):\n    return x\n\n" * 400)
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT.format(directory=directory, text=text))
    monkeypatch.chdir(tmp_path)
    yield directory, written, file
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]


@pytest.mark.parametrize("plugin", [huggingface, transformer_lens])
def test_no_model_plugin_runs_it_unasked(canary, plugin):
    """Without permission: one line that names the flag, and the module was not imported."""
    directory, written, _ = canary
    settings = next(iter(plugin.saecore_components())).config(str(directory))
    with pytest.raises(ModelError, match="add --trust-remote-code to saecore run, cache") as raised:
        plugin.build(settings, torch.device("cpu"), torch.float32)
    assert "\n" not in str(raised.value)
    assert not written.exists()


def test_with_permission_it_runs(canary):
    """With permission the model's own class is loaded, and its modules can be named."""
    directory, written, _ = canary
    with remote_code(True):
        backend = huggingface.build(
            huggingface.HuggingFaceConfig(str(directory)), torch.device("cpu"), torch.float32
        )
    assert written.exists()
    assert type(backend.model).__name__ == "CanaryModel"
    assert backend.activations(TOKENS, ["transformer.h.1"])["transformer.h.1"].shape[2] == 32
    with pytest.raises(ModelError, match=r"model type 'coalmine'.*name a module: transformer.h.0"):
        backend.d("blocks.1.hook_resid_post")


def test_permission_ends_with_its_context():
    """Permission holds within `with remote_code(True)`, in this context only."""
    assert not remote_code_allowed()
    with remote_code(True):
        assert remote_code_allowed()
        with remote_code(False):
            assert not remote_code_allowed()
    assert not remote_code_allowed()


def test_run_takes_permission_as_an_argument(canary):
    """`saecore.run` refuses by default and trains with `trust_remote_code=True`."""
    _, written, file = canary
    experiment, _ = config.load_experiment(file)
    with pytest.raises(ModelError, match="trust_remote_code=True"):
        run.run(experiment)
    assert not written.exists()
    run.run(experiment, trust_remote_code=True)
    assert written.exists()
    assert not remote_code_allowed()


def test_command_line_flag(canary):
    """`saecore run` refuses; with --trust-remote-code it trains."""
    _, written, file = canary
    refused = CliRunner().invoke(cli, ["run", str(file)])
    assert isinstance(refused.exception, ModelError)
    assert not written.exists()
    trained = CliRunner().invoke(cli, ["run", str(file), "--trust-remote-code"])
    assert trained.exit_code == 0, trained.output
    assert written.exists()


@pytest.mark.parametrize("key", ["trust_remote_code", "model.trust_remote_code"])
def test_no_file_gives_permission(canary, key):
    """In a file or with --set it is an unknown key as any other."""
    _, written, file = canary
    with pytest.raises(ConfigError, match=f"{key}: unknown key"):
        config.load_experiment(file, [f"{key}=true"])
    assert not written.exists()
