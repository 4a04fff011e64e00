"""Loading from directories and the hub: which class, what is recorded, and errors of one line."""

import hashlib
import json
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from saecore.config.load import load_experiment
from saecore.errors import ModelError
from saecore.models.huggingface import HuggingFaceBackend
from saecore.plugins import NoSettings
from saecore.runs.run import run
from saecore_plugins.models import huggingface, loading
from saecore_plugins.models.tiny_lm import DIRECTORY
from tests.models.tiny import TOKENS, make, tokenizer

CPU = torch.device("cpu")
EXPERIMENT = """\
output = "{path}/runs"
[model]
type = "huggingface"
name = "{directory}"
hook = "blocks.1.hook_resid_post"
[dataset]
type = "text_files"
paths = ["{path}/text.txt"]
context_size = 16
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
tokens = 64
[[evaluator]]
type = "reconstruction"
"""


def build(name, dtype=torch.float32, **settings):
    """A backend as an experiment would build it."""
    return huggingface.build(huggingface.HuggingFaceConfig(str(name), **settings), CPU, dtype)


def refused(name, *expected, dtype=torch.float32, **settings):
    """Building fails with one line that says all of `expected`."""
    with pytest.raises(ModelError) as raised:
        build(name, dtype, **settings)
    line = str(raised.value)
    assert "\n" not in line
    for phrase in expected:
        assert phrase in line
    return line


@pytest.fixture
def saved(tmp_path):
    """A function that saves a model, with a tokenizer that fits it, and gives the directory."""

    def save(model):
        model.save_pretrained(tmp_path)
        vocabulary = {f"t{i}": i for i in range(3, 40)} | {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}
        tokenizer = transformers.BertTokenizer(vocab=vocabulary)
        tokenizer.add_special_tokens({"pad_token": "[UNK]", "mask_token": "[UNK]"})
        tokenizer.save_pretrained(tmp_path)
        return tmp_path

    return save


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_causal_models(saved, name):
    """A causal model gives its own logits, in the precision asked for."""
    model = make(name)
    backend = build(saved(model))
    torch.testing.assert_close(backend.run_with(TOKENS, {}), model(TOKENS).logits)
    half = build(saved(model), torch.bfloat16)
    hook = "blocks.1.hook_resid_post"
    assert half.activations(TOKENS, [hook])[hook].dtype == torch.bfloat16


def test_encoder_gives_masked_logits(saved):
    """BERT reads both ways and gives the logits of its masked-language-model head."""
    model = make("bert")
    backend = build(saved(model))
    assert type(backend.model).__name__ == "BertForMaskedLM"
    torch.testing.assert_close(backend.run_with(TOKENS, {}), model(TOKENS).logits)
    changed = TOKENS.clone()
    changed[:, -1] = 50
    first = [backend.run_with(tokens, {})[:, 0] for tokens in (TOKENS, changed)]
    assert not torch.allclose(*first)


def test_sae_on_an_encoder(saved, tmp_path, monkeypatch):
    """An SAE trains on BERT with the default settings: its contexts begin with [CLS]."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    directory, file, seen = saved(make("bert")), tmp_path / "experiment.toml", []
    (tmp_path / "text.txt").write_text(" ".join(f"t{3 + i % 37}" for i in range(2000)))
    file.write_text(EXPERIMENT.format(directory=directory, path=tmp_path))
    original = HuggingFaceBackend.activations

    def watched(self, tokens, hooks):
        seen.append(tokens)
        return original(self, tokens, hooks)

    monkeypatch.setattr(HuggingFaceBackend, "activations", watched)
    result = run(load_experiment(file)[0])
    assert result.evaluation["reconstruction"]["l0"]["value"] == 4
    contexts = torch.cat([tokens for tokens in seen if tokens.shape[1] == 16])
    assert (contexts[:, 0] == 1).all()


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_model_without_a_head(saved, name):
    """Activations are the same without a head; asking for logits says that there is none."""
    model = make(name)
    body = getattr(model, model.base_model_prefix)
    body.config.architectures = [type(body).__name__]
    body.config.tie_word_embeddings = name == "bert"
    backend = build(saved(body))
    hook = "blocks.1.hook_resid_post"
    state = body(TOKENS, output_hidden_states=True).hidden_states[2]
    if name == "bert":  # Llama's last hidden state is behind the final norm
        torch.testing.assert_close(backend.activations(TOKENS, [hook])[hook], state)
    assert backend.d("blocks.0.attn.hook_z") == ((4, 8) if name == "bert" else (4, 6))
    with pytest.raises(ModelError, match=r"no language-model head.*reconstruction"):
        backend.run_with(TOKENS, {})


def test_weights_that_are_missing(saved):
    """A checkpoint without some weights of the body is refused, not filled with random numbers."""
    from safetensors.torch import load_file, save_file

    directory = saved(make("llama"))
    weights = load_file(directory / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    refused(directory, "lack 1 weights such as model.layers.1.mlp.up_proj.weight")


def test_identity(saved):
    """A directory is known by the hash of its weights; settings that change numbers are noted."""
    directory = saved(make("gpt2"))
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    identity = build(directory, attention="eager").identity
    assert identity == {
        "name": str(directory), "sha256": digest, "dtype": "torch.float32",
        "attention": "eager", "convention": "raw",
    }  # fmt: skip


def test_commit_is_recorded_and_pinned(saved, monkeypatch):
    """The commit behind a branch is recorded, and everything after the config comes from it."""
    directory, seen = str(saved(make("gpt2"))), {}
    for auto in ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"):
        cls = getattr(transformers, auto)

        def from_hub(name, auto=auto, original=cls.from_pretrained, **options):
            seen.setdefault(auto, options.pop("revision", None))
            loaded = original(directory, **options)
            if auto == "AutoConfig" and not isinstance(loaded, tuple):
                loaded._commit_hash = "c0ffee"
            return loaded

        monkeypatch.setattr(cls, "from_pretrained", from_hub)
    assert build("some/model", revision="step3").identity["revision"] == "c0ffee"
    assert seen == {
        "AutoConfig": "step3", "AutoTokenizer": "c0ffee", "AutoModelForCausalLM": "c0ffee",
    }  # fmt: skip


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementation(saved, attention):
    """The implementation that is asked for is the one that runs."""
    backend = build(saved(make("gpt2")), attention=attention)
    assert backend.model.config._attn_implementation == attention


def test_attention_that_cannot_be(saved):
    """Flash attention is refused in float32, and where its package is not installed."""
    directory = saved(make("gpt2"))
    refused(directory, "model.attention", "float32", 'model.dtype = "bfloat16"',
            attention="flash_attention_2")  # fmt: skip
    refused(directory, "model.attention", "Install flash-attn",
            dtype=torch.bfloat16, attention="flash_attention_2")  # fmt: skip


def test_quantization_without_its_package(saved, monkeypatch):
    """Without bitsandbytes the error says what to install."""
    monkeypatch.setattr(loading, "_installed", lambda package: package != "bitsandbytes")
    refused(saved(make("gpt2")), 'model.quantization: "8bit" needs bitsandbytes',
            "pip install bitsandbytes", quantization="8bit")  # fmt: skip


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantization_reaches_transformers(saved, monkeypatch, bits):
    """The number of bits and the device go to from_pretrained; the model is not moved after."""
    monkeypatch.setattr(loading, "_installed", lambda package: True)
    directory, seen = saved(make("gpt2")), {}
    original = transformers.AutoModelForCausalLM.from_pretrained

    def from_pretrained(name, quantization_config, device_map, **options):
        seen.update(quantization_config.to_dict(), device=device_map[""])
        return original(name, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    backend = build(directory, quantization=bits)
    assert seen[f"load_in_{bits}"] is True
    assert seen["device"] == CPU
    assert backend.identity["quantization"] == bits


@pytest.mark.parametrize(("bits", "off"), [("8bit", 0.05), ("4bit", 0.3)])
def test_quantized_weights(bits, off):
    """With bitsandbytes there, quantized weights give nearly the same activations."""
    pytest.importorskip("bitsandbytes")
    hook = "blocks.2.hook_resid_post"
    whole, fewer = (
        build(DIRECTORY, quantization=kind).activations(TOKENS, [hook])[hook]
        for kind in (None, bits)
    )
    assert 0 < (fewer - whole).norm() / whole.norm() < off


def test_unknown_name_while_offline(monkeypatch):
    """A name that is in no cache, without a network: what is missing and how to get it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused("nobody/nothing", "'nobody/nothing' is neither a local directory",
            "HF_HUB_OFFLINE is set", "hf download nobody/nothing")  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(GatedRepoError, "accept its terms"), (RepositoryNotFoundError, "check the spelling"),
     (RevisionNotFoundError, "no revision 'v9'")],
)  # fmt: skip
def test_what_the_hub_refuses(monkeypatch, kind, expected):
    """A gated model, one that does not exist and an unknown revision each have their remedy."""
    response = SimpleNamespace(headers={}, request=None)

    def from_pretrained(name, **options):
        try:
            raise kind("401 Client Error.\nmuch more", response=response)
        except Exception as error:
            raise OSError("You are trying to access\na repository") from error

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)
    refused("some/model", "some/model", expected, revision="v9")


def test_directory_without_config(tmp_path):
    """A directory that is no model is named, with what was expected in it."""
    refused(tmp_path, "model.name", str(tmp_path), "no config.json", "save_pretrained")


def test_directory_that_does_not_exist(tmp_path):
    """A path that is not there is no name on the hub either."""
    refused(tmp_path / "gone", "model.name", str(tmp_path / "gone"), "is neither a local directory")


def test_encoder_decoder(tmp_path):
    """T5 is refused by its kind."""
    transformers.T5Config(num_layers=1).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    refused(tmp_path, "encoder-decoder (t5)", "expected a causal language model or an encoder")


def test_config_of_wrong_values(saved):
    """A config.json with a value that cannot be is one line that holds it."""
    directory = saved(make("gpt2"))
    settings = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**settings, "n_layer": "many"}))
    refused(directory, "cannot be loaded from the directory", "n_layer", "many")


def test_damaged_weights(saved):
    """Weights that cannot be read are one line."""
    directory = saved(make("gpt2"))
    (directory / "model.safetensors").write_bytes(b"not weights")
    refused(directory, "cannot be loaded from the directory")


def test_tokenizer_is_missing(tmp_path):
    """Transformers makes an empty tokenizer where there are no files for one; saecore says so."""
    make("gpt2").save_pretrained(tmp_path)
    refused(tmp_path, "comes without a tokenizer", "tokenizer.json")


def test_tokenizer_of_another_model(tmp_path):
    """A tokenizer with more tokens than the embedding has rows is not the model's."""
    make("gpt2").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    refused(tmp_path, "has 4096 tokens", "61 rows", "belongs to another model")


def test_added_tokens_do_not_make_it_another_models(saved):
    """A special token above the embedding, as Gemma 3 has, is no reason to refuse."""
    directory = saved(make("gpt2"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<extra{i}>" for i in range(30)]})
    tokenizer.save_pretrained(directory)
    assert len(tokenizer) > 61
    assert build(directory).vocab_size == 61


def test_unknown_architecture(tmp_path):
    """A model type that transformers does not know is one line with the type."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    refused(tmp_path, "nonesuch")


def test_embedded_model_is_known_by_its_hash():
    """tiny_lm records its name and the hash of its weights."""
    from saecore_plugins.models import tiny_lm

    backend = tiny_lm.build(NoSettings(), CPU, torch.float32)
    digest = hashlib.sha256((DIRECTORY / "model.safetensors").read_bytes()).hexdigest()
    assert backend.name == backend.identity["name"] == "tiny_lm"
    assert backend.identity["sha256"] == digest
