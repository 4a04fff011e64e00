"""The reference's Python calls, one by one, on local models and text; only the import is ours."""

import sys

import attrs
import pytest
import torch

from saecore import (
    SAE,
    ActivationsStore,
    HookedSAETransformer,
    LanguageModelSAERunnerConfig,
    SAETrainingRunner,
    load_experiment,
    splice,
)
from saecore.core.sae_config import Metadata
from saecore.errors import ConfigError, DataError, ModelError
from saecore.saelens.parameters import Parameters
from saecore_plugins.models.tiny_lm import DIRECTORY
from tests.saecore_plugins.loggers.test_wandb import Fake

GHOST = "losses/ghost_grad_loss"
HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a parquet file of text, and a cache of its own."""
    import datasets

    directory = tmp_path_factory.mktemp("reference")
    texts = [f"def f{i}(x):\n    return x + {i}\n\n" * 12 for i in range(80)]
    datasets.Dataset.from_dict({"text": texts}).to_parquet(str(directory / "text.parquet"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAECORE_CACHE", str(directory / "cache"))
        patch.setitem(sys.modules, "wandb", Fake())
        yield directory


def settings(place):
    """Every parameter of the reference's example, with small numbers and local paths."""
    return {
        "model_name": "tiny_lm",
        "hook_name": HOOK,
        "hook_layer": 1,
        "d_in": 256,
        "architecture": "standard",
        "d_sae": 256 * 2,
        "activation_fn": "relu",
        "lr": 4e-4,
        "l1_coefficient": 8e-5,
        "lp_norm": 1.0,
        "lr_scheduler_name": "constant",
        "lr_warm_up_steps": 2,
        "lr_decay_steps": 2,
        "l1_warm_up_steps": 3,
        "use_ghost_grads": True,
        "normalize_activations": "none",
        "feature_sampling_window": 1000,
        "dead_feature_window": 5000,
        "dead_feature_threshold": 1e-8,
        "dataset_path": str(place / "text.parquet"),
        "streaming": True,
        "context_size": 32,
        "train_batch_size_tokens": 256,
        "store_batch_size_prompts": 16,
        "n_batches_in_buffer": 4,
        "training_tokens": 2048,
        "log_to_wandb": True,
        "wandb_project": "sae-training",
        "wandb_log_frequency": 2,
        "checkpoint_path": str(place / "checkpoints"),
        "n_checkpoints": 2,
        "device": "cpu",
        "dtype": "float32",
    }


@pytest.fixture(scope="module")
def trained(place):
    """A runner that has run, and what it returned."""
    runner = SAETrainingRunner(LanguageModelSAERunnerConfig(**settings(place)))
    return runner, runner.run()


@pytest.fixture(scope="module")
def model():
    """The embedded model as transformers loads it."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(DIRECTORY, dtype=torch.float32)


# -- training ------------------------------------------------------------------------------------


def test_the_runner_returns_the_trained_sae(trained, place):
    """Every parameter of the example is taken; the SAE is the one in the run's directory, and as
    many checkpoints are there as were asked for.
    """
    runner, sae = trained
    assert set(settings(place)) | {"expansion_factor", "activation_fn_kwargs"} == set(
        attrs.fields_dict(Parameters)
    )
    directory = runner.result.directory
    assert directory.parent.parent == place / "checkpoints"
    steps = sorted(one.name for one in (directory / "checkpoints").glob("step-*"))
    assert [int(one.removeprefix("step-")) for one in steps] == [4, 8]
    loaded = SAE.load_from_disk(directory / "sae", device="cpu")
    for name, tensor in sae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    calls = sys.modules["wandb"].calls
    assert calls[0][1]["project"] == "sae-training"
    assert [one[1] for one in calls if one[0] == "log" and GHOST in one[2]] == [2, 4, 6, 8]
    assert calls[-1] == ("finish", 0)


def test_a_finished_run_resumed_gives_the_same_sae(trained, place):
    """`run(resume=…)` of what has ended trains nothing and returns the SAE."""
    runner, sae = trained
    again = SAETrainingRunner(runner.cfg).run(resume=runner.result.directory)
    assert torch.equal(again.W_dec, sae.W_dec)


def test_the_translation(place):
    """Each parameter sets the key that the how-to names; the experiment file says the same."""
    cfg = LanguageModelSAERunnerConfig(**settings(place))
    file = place / "translated.toml"
    file.write_text(cfg.toml())
    experiment, _ = load_experiment(file)
    assert experiment == cfg.experiment()
    sae, training = experiment.sae, experiment.training
    assert (sae.architecture.name, sae.d_in, sae.d_sae) == ("standard", 256, 512)
    assert sae.architecture.config.l1_coefficient == 8e-5
    assert sae.architecture.config.l1_schedule.config.warm_up_steps == 3
    assert sae.dead_latents.config.after_steps == 5000
    assert (training.tokens, training.batch_size, training.lr) == (2048, 256, 4e-4)
    assert training.lr_schedule.config.warm_up_steps == 2
    assert (training.checkpoint.count, training.checkpoint.keep) == (2, 2)
    assert experiment.buffer.tokens == 2 * 16 * 32
    assert experiment.dataset.loader.config.streaming


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ({"architecture": "gated"}, "l1_coefficient", 1e-3),
        ({"architecture": "jumprelu", "l1_coefficient": 2.0}, "l0_coefficient", 2.0),
        ({"architecture": "topk", "activation_fn_kwargs": {"k": 50}}, "k", 50),
        ({"activation_fn": "topk", "activation_fn_kwargs": {"k": 50}}, "k", 50),
        ({"architecture": "standard", "l1_coefficient": 8e-5}, "l1_coefficient", 8e-5),
    ],
)
def test_architectures(given, key, value):
    """The short examples of each architecture, with defaults for all the rest."""
    experiment = LanguageModelSAERunnerConfig(**given).experiment()
    table = experiment.sae
    assert table.architecture.name == given.get("architecture", "topk")
    assert getattr(table.architecture.config, key) == value
    assert table.dead_latents.name == ("auxk" if key == "k" else "none")
    assert table.expansion_factor == 4


def test_errors_of_the_run_name_parameters(place):
    """What only the model can tell is reported under the parameter's name, too."""
    cfg = LanguageModelSAERunnerConfig(**{**settings(place), "d_in": 128})
    with pytest.raises(ConfigError, match=r"d_in: .* of tiny_lm has size 256"):
        SAETrainingRunner(cfg).run()


# -- the SAE -------------------------------------------------------------------------------------


def test_load_encode_decode_forward_save(trained, tmp_path):
    """Shapes, that forward is decode of encode, and that what is saved comes back."""
    sae = SAE.load_from_disk(str(trained[0].result.directory / "sae"), device="cpu")
    x = torch.randn(2, 5, 256, generator=torch.Generator().manual_seed(0))
    features = sae.encode(x)
    assert features.shape == (2, 5, 512)
    reconstructed = sae.decode(features)
    assert reconstructed.shape == (2, 5, 256)
    torch.testing.assert_close(sae(x), reconstructed, rtol=1e-4, atol=1e-5)
    assert sae.W_enc.shape == (256, 512)
    assert sae.W_dec.shape == (512, 256)
    assert sae.b_enc.shape == (512,)
    assert sae.b_dec.shape == (256,)
    sae.save_model(str(tmp_path / "saved"))
    assert torch.equal(SAE.load_from_disk(tmp_path / "saved")(x), sae(x))


def test_config_fields(trained):
    """The fields that users read."""
    cfg = trained[1].cfg
    assert (cfg.d_in, cfg.d_sae, cfg.architecture) == (256, 512, "standard")
    assert (cfg.hook_name, cfg.model_name) == (HOOK, "tiny_lm")
    assert (cfg.normalize_activations, cfg.dtype, cfg.device) == ("none", "float32", "cpu")


# -- SAEs in the model -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny_lm", str(DIRECTORY)], ids=["name", "directory"])
def test_hooked_model(trained, model, name):
    """The example of hooked models: SAEs added, for one run, and with a cache of their tensors."""
    sae = trained[1]
    tokens = store(model, sae).get_batch_tokens(2)
    hooked = HookedSAETransformer.from_pretrained(name)
    hooked.add_sae(sae)
    output = hooked.run_with_saes(tokens, saes=[sae])
    assert torch.equal(output, hooked(tokens))
    again, cache = hooked.run_with_cache_with_saes(tokens, saes=[sae])
    assert torch.equal(again, output)
    features = sae.encode(cache[f"{HOOK}.hook_sae_input"])
    torch.testing.assert_close(cache[f"{HOOK}.hook_sae_acts_post"], features)
    hooked.reset_saes()
    torch.testing.assert_close(hooked(tokens), model(tokens).logits, atol=1e-4, rtol=1e-4)


# -- the store -----------------------------------------------------------------------------------


def store(model, sae, **others):
    """A small store."""
    sizes = {"store_batch_size_prompts": 8, "train_batch_size_tokens": 512}
    return ActivationsStore.from_sae(
        model=model, sae=sae, **sizes, n_batches_in_buffer=4, device="cpu", **others
    )


def test_store(trained, model):
    """Tokens in contexts, their activations as the SAE reads them, batches until the text ends."""
    sae = trained[1]
    one = store(model, sae)
    tokens = one.get_batch_tokens()
    assert tokens.shape == (8, 32)
    assert tokens.dtype == torch.int64
    activations = one.get_activations(tokens)
    hidden = model(tokens, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(activations, hidden)
    assert sae(activations).shape == (8, 32, 256)
    assert not torch.equal(one.get_batch_tokens(), tokens)
    assert one.next_batch().shape == (512, 256)
    rest = list(one)
    assert len(rest) > 3
    assert all(batch.shape == (512, 256) for batch in rest)
    with pytest.raises(DataError, match="the text ends"):
        one.next_batch()


def test_store_gives_every_row_once(trained, model):
    """The mixed stream holds the activations of all contexts, each once; tokens start again."""
    one = store(model, trained[1])
    mixed = torch.cat(list(one))
    count = one._buffer.contexts.total
    tokens = one.get_batch_tokens(count)
    rows = one.get_activations(tokens).reshape(-1, 256)
    dropped = len(rows) - len(mixed)
    assert 0 <= dropped < 512
    assert len(one.get_batch_tokens(count + 3)) == count + 3
    whole, part = rows.sum(1).double().sort().values, mixed.sum(1).double().sort().values
    nearest = whole[torch.searchsorted(whole, part - 1e-3).clamp(max=len(whole) - 1)]
    torch.testing.assert_close(nearest, part, rtol=0, atol=2e-3)


def test_store_over_other_models_and_texts(trained, model, place):
    """A backend, a model and a bridge give the same; text may be a dataset that is loaded."""
    import datasets
    import transformers

    from saecore.models.wrap import backend_of
    from saecore_plugins.models.transformer_lens.backend import build_bridge

    sae = trained[1]
    data = datasets.Dataset.from_parquet(str(place / "text.parquet"), cache_dir=str(place / "hf"))
    backend = backend_of(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(DIRECTORY)
    again = transformers.AutoModelForCausalLM.from_pretrained(DIRECTORY, dtype=torch.float32)
    bridge = build_bridge(again, tokenizer, str(DIRECTORY), torch.float32, False)
    stores = [store(one, sae, dataset=data) for one in (backend, bridge)]
    tokens = [one.get_batch_tokens() for one in stores]
    assert torch.equal(*tokens)
    torch.testing.assert_close(*(one.get_activations(tokens[0]) for one in stores))


def test_store_reads_the_model_without_its_saes(trained, model):
    """An SAE in the model is not in the activations; it stays, and works afterwards."""
    sae = trained[1]
    hooked = HookedSAETransformer.from_pretrained("tiny_lm")
    clean = store(hooked, sae)
    tokens = clean.get_batch_tokens()
    expected, batch = clean.get_activations(tokens), clean.next_batch()
    hooked.add_sae(sae)
    with_sae = hooked(tokens)
    one = store(hooked, sae)
    assert torch.equal(one.get_activations(tokens), expected)
    assert torch.equal(one.next_batch(), batch)
    assert torch.equal(hooked(tokens), with_sae)
    assert hooked.acts_to_saes == {HOOK: sae}
    expected = store(model, sae).get_activations(tokens)
    with splice(model, sae):
        assert torch.equal(store(model, sae).get_activations(tokens), expected)


def test_store_gives_the_model_back_as_it_was(trained):
    """Mode, gradients, use_cache and pad_token_id are untouched after every call."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(DIRECTORY, dtype=torch.float32).train()
    model.transformer.h[1].eval()
    model.transformer.wte.requires_grad_(False)
    model.config.use_cache, model.config.pad_token_id = True, 1

    def state():
        return (
            [module.training for module in model.modules()],
            [parameter.requires_grad for parameter in model.parameters()],
            model.config.to_dict(),
        )

    before = state()
    one = store(model, trained[1])
    assert state() == before
    tokens = one.get_batch_tokens()
    activations = one.get_activations(tokens)
    one.next_batch()
    assert state() == before
    hidden = model.eval()(tokens, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(activations, hidden)


def test_store_refuses(trained, model, tmp_path):
    """A model, text or SAE that cannot be used: one line each."""
    sae = trained[1]
    with pytest.raises(ModelError, match="expected a transformers model"):
        store(object(), sae)
    with pytest.raises(DataError, match=r"expected a datasets\.Dataset"):
        store(model, sae, dataset=3)
    with pytest.raises(DataError, match="no-such-file"):
        store(model, sae, dataset=str(tmp_path / "no-such-file.parquet"))
    bare = SAE.load_from_disk(trained[0].result.directory / "sae")
    bare.cfg = attrs.evolve(bare.cfg, metadata=Metadata())
    with pytest.raises(ConfigError, match="metadata has no hook_name"):
        store(model, bare)
    with pytest.raises(ConfigError, match="store_batch_size_prompts: expected an integer"):
        ActivationsStore.from_sae(model=model, sae=sae, store_batch_size_prompts=0)
