"""Runs that read or reconstruct several hooks of the embedded model, and what they refuse."""

import json

import pytest
import torch

from saecore import SAE
from saecore.config import structure_experiment
from saecore.errors import ConfigError
from saecore.runs.inputs import build_inputs
from saecore.runs.run import run

READ = [f"blocks.{layer}.hook_resid_mid" for layer in range(3)]
WANTED = [f"blocks.{layer}.hook_mlp_out" for layer in range(3)]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Ten small text files."""
    directory = tmp_path_factory.mktemp("text")
    for i in range(10):
        words = [f"def f{j % 17}(x{i}): return x{i} + {j * i % 23}\n" for j in range(200)]
        (directory / f"{i}.txt").write_text("".join(words))
    return directory


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Token files in a directory of the test's own."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def experiment(text, output, model, sae):
    """A small experiment."""
    return structure_experiment(
        {
            "name": "several",
            "output": str(output),
            "model": {"type": "tiny_lm", "device": "cpu", **model},
            "dataset": {"type": "text_files", "paths": [str(text)], "context_size": 32,
                        "held_out": 0.2},
            "buffer": {"tokens": 2048, "model_batch_size": 16},
            "sae": {"d_sae": 96, **sae},
            "training": {"tokens": 4096, "batch_size": 256, "lr": 1e-3},
            "evaluation": {"tokens": 256},
        }
    )  # fmt: skip


CLT = {
    "architecture": "clt",
    "activation": {"type": "batchtopk", "k": 8},
    "dead_latents": {"type": "auxk", "after_tokens": 512},
    "normalizer": {"type": "expected_average_only_in", "tokens": 1024},
}


def test_cross_layer_transcoder(text, tmp_path):
    """A run of a cross-layer transcoder: its file reads every input, its figures compare with every
    target, and both say so by hook.
    """
    chosen = experiment(text, tmp_path, {"hooks": READ, "target_hooks": WANTED}, CLT)
    done = run(chosen)
    sae = SAE.load_from_disk(done.directory / "sae").requires_grad_(False)
    assert sae.cfg.metadata.hook_names == READ
    assert sae.cfg.metadata.hook_names_out == WANTED
    figures = json.loads((done.directory / "evaluation.json").read_text())["figures"]
    feed = build_inputs(chosen)
    model, contexts = feed.held_out.model, feed.held_out.contexts
    found = model.activations(contexts, (*READ, *WANTED))
    inputs = torch.stack([found[name] for name in READ], 2)
    error = sum(
        (sae(inputs)[:, :, i] - found[name]).square().sum(-1) for i, name in enumerate(WANTED)
    )
    assert figures["reconstruction"]["mse"]["value"] == pytest.approx(float(error.mean()), rel=1e-4)
    assert figures["reconstruction"]["l0"]["value"] > 1
    replaced = {
        name: lambda _, i=i: sae(inputs)[:, :, i] for i, name in enumerate(WANTED)
    }  # what the model would do with reconstructions of its own activations
    logits = model.run_with(contexts, replaced).float().log_softmax(-1)
    nll = -logits[:, :-1].gather(-1, contexts[:, 1:, None]).mean()
    assert figures["loss_recovered"]["ce_loss_with_sae"]["value"] == pytest.approx(
        float(nll), rel=1e-4
    )


@pytest.mark.parametrize(
    ("strategy", "figure"),
    [
        ({"type": "auxk", "after_tokens": 512}, "losses/auxiliary_reconstruction_loss"),
        ({"type": "ghost_grads", "after_tokens": 512}, "losses/ghost_grad_loss"),
        ({"type": "resample", "after_tokens": 512, "every_steps": 8}, "losses/mse_loss"),
    ],
    ids=lambda one: one["type"] if isinstance(one, dict) else "",
)
def test_dead_latents_of_a_crosscoder(text, tmp_path, strategy, figure):
    """Dead latents of a crosscoder are brought back from all hooks together."""
    sae = {**CLT, "architecture": "crosscoder", "dead_latents": strategy}
    done = run(experiment(text, tmp_path, {"hooks": READ}, sae))
    lines = [json.loads(line) for line in (done.directory / "metrics.jsonl").open()]
    losses = [one.get(figure) for one in lines]
    assert any(losses)


PAIRED = {"hooks": READ, "target_hooks": WANTED}
TOPK = {"architecture": "topk", "k": 4}


@pytest.mark.parametrize(
    ("model", "sae", "problem"),
    [
        (PAIRED, TOPK, "model.target_hooks: architecture topk does not reconstruct several"),
        (PAIRED, {"architecture": "crosscoder"}, "model.target_hooks: architecture crosscoder"),
        ({"hooks": READ}, CLT, "model.target_hooks: architecture clt reconstructs hooks other"),
        (
            {"hooks": READ[:2], "target_hooks": [WANTED[0], "blocks.1.mlp.hook_post"]},
            CLT,
            "model.target_hooks: expected hooks of one size, got blocks.0.hook_mlp_out: 256",
        ),
        (PAIRED, {**CLT, "d_sae": 100}, "sae.d_sae: expected a multiple of the 3 layers"),
        (PAIRED, {**CLT, "normalizer": "layer_norm"}, "sae.normalizer: layer_norm scales every"),
        (
            {"hook": READ[0], "target_hook": WANTED[0]},
            {"architecture": "transcoder", "normalizer": "constant_norm_rescale"},
            "sae.normalizer: constant_norm_rescale scales every activation by itself",
        ),
    ],
)
def test_what_does_not_fit(text, tmp_path, model, sae, problem):
    """Targets, widths and normalizers that an architecture cannot use are refused by their keys."""
    with pytest.raises(ConfigError) as found:
        run(experiment(text, tmp_path, model, sae))
    assert [line for line in found.value.problems if line.startswith(problem)], found.value.problems
