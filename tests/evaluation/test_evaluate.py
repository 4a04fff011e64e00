"""`saecore evaluate` and `saecore.evaluate`: of runs and SAEs, and their errors."""

import json

import attrs
import pytest
import torch
from transformers import AutoModelForCausalLM

import saecore
from saecore.cli import main
from saecore.config import structure_experiment
from saecore.core.sae_config import Metadata
from saecore.errors import CheckpointError, ConfigError
from saecore.models.huggingface import HuggingFaceBackend
from saecore.runs.run import run
from tests.conftest import DATA
from tests.saecore_plugins.evaluators.planted import sae_of

SMALL = ("evaluation.tokens=512", "dataset.context_size=32")
MODEL = DATA / "oracle" / "model"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few steps, on text files."""
    root = tmp_path_factory.mktemp("run")
    (root / "text").mkdir()
    for i in range(8):
        lines = [f"def function_{i}_{j}(x):\n    return x + {j * i}\n" for j in range(120)]
        (root / "text" / f"{i}.py").write_text("\n".join(lines))
    tables = {
        "output": str(root / "runs"),
        "name": "small",
        "model": {"type": "tiny_lm", "hook": "blocks.1.hook_resid_post", "device": "cpu"},
        "dataset": {"type": "text_files", "paths": [str(root / "text")], "context_size": 32,
                    "held_out": 0.3},
        "buffer": {"tokens": 512},
        "sae": {"architecture": "topk", "d_sae": 64, "k": 4},
        "training": {"tokens": 1024, "batch_size": 256},
        "evaluation": {"tokens": 512},
        "logger": [{"type": "console"}],
        "evaluator": [{"type": "reconstruction", "batch_size": 4}, {"type": "loss_recovered"}],
    }  # fmt: skip
    return run(structure_experiment(tables)), root


def command(*words):
    """Run the command line; returns its exit code."""
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *map(str, words)])
    return end.value.code


def test_of_a_run_equals_its_own_figures(trained):
    """Evaluating a run reproduces its final figures bit by bit, and adds more."""
    result, _ = trained
    again = saecore.evaluate(result.directory)
    for name in ("reconstruction", "loss_recovered"):
        assert again.measured.tables()[name] == result.evaluation[name]
    assert set(again.measured.figures) == {
        "reconstruction", "loss_recovered", "featurewise", "density", "geometry"
    }  # fmt: skip
    assert again.data["contexts"] == 16
    assert set(again.featurewise()) >= {"feature_density", "encoder_norm"}
    groups = again.metrics()
    assert groups["token_stats"]["total_tokens_eval_reconstruction"] == 512
    assert groups["sparsity"]["l0"] == result.evaluation["reconstruction"]["l0"]["value"]


def test_of_a_directory_equals_the_run(trained):
    """The SAE's directory names model and hook; with the text, figures equal the run's."""
    result, root = trained
    again = saecore.evaluate(
        str(result.directory / "sae"), dataset=str(root / "text"), evaluators=["reconstruction"],
        settings={"dataset.held_out": 0.3, "evaluation.tokens": 512,
                  "reconstruction.batch_size": 4},
    )  # fmt: skip
    assert again.measured.tables()["reconstruction"] == result.evaluation["reconstruction"]


def test_json_is_saebench(trained, capsys):
    """Core results have SAEBench's keys; evaluators unknown to SAEBench keep their names."""
    result, _ = trained
    names = "reconstruction,loss_recovered,featurewise,density,geometry,meta"
    assert command(result.directory, "--evaluators", names, "--set", "meta.steps=2", "--json") == 0
    core, meta = json.loads(capsys.readouterr().out)
    assert (core["eval_type_id"], meta["eval_type_id"]) == ("core", "meta")
    assert set(core) == {
        "eval_type_id", "eval_config", "eval_id", "datetime_epoch_millis", "eval_result_metrics",
        "eval_result_details", "sae_bench_commit_hash", "sae_lens_id", "sae_lens_release_id",
        "sae_lens_version", "sae_cfg_dict", "saecore",
    }  # fmt: skip
    metrics = core["eval_result_metrics"]
    assert {"kl_div_score", "kl_div_with_ablation"} < set(metrics["model_behavior_preservation"])
    assert {"freq_over_1_percent", "average_max_decoder_cosine_sim", "frac_alive"} < set(
        metrics["misc_metrics"]
    )
    assert metrics["token_stats"] == {
        "total_tokens_eval_reconstruction": 512, "total_tokens_eval_sparsity_variance": 512
    }  # fmt: skip
    first = core["eval_result_details"][0]
    assert {"index", "feature_density", "consistent_activation_heuristic", "encoder_bias",
            "encoder_norm", "encoder_decoder_cosine_sim", "max_decoder_cosine_sim",
            "max_encoder_cosine_sim"} <= set(first)  # fmt: skip
    low, high = core["saecore"]["figures"]["mse"]["interval"]
    assert low < metrics["reconstruction_quality"]["mse"] < high
    assert core["eval_config"]["model"]["hook"] == "blocks.1.hook_resid_post"
    assert core["sae_cfg_dict"]["architecture"] == "topk"


def test_table(trained, capsys):
    """The table shows figures, intervals and tokens, and the reasons to skip."""
    result, _ = trained
    assert command(result.directory, "--evaluators", "reconstruction,absorption,ground_truth") == 0
    output = capsys.readouterr().out
    assert "16 held-out contexts of 32 tokens" in output
    line = next(line for line in output.splitlines() if "mse" in line)
    assert "…" in line
    assert "512" in line
    assert "absorption skipped: the model cannot spell: it names" in output
    assert "ground_truth skipped: needs the true features" in output


def test_given_in_python():
    """A loaded model and tokens can be passed; evaluators of weights need neither."""
    loaded = AutoModelForCausalLM.from_pretrained(MODEL / "model")
    model = HuggingFaceBackend(loaded, None, "recorded", {})
    record = json.loads((MODEL / "evals.json").read_text())
    sae = saecore.SAE.load_from_disk(MODEL / "sae_mlp")
    tokens = torch.tensor(record["eval_tokens"])
    evaluation = saecore.evaluate(sae, model=model, dataset=tokens, evaluators=["loss_recovered"])
    recorded = record["figures"]["mlp"]["metrics"]["model_performance_preservation"]
    ours = evaluation.metrics()["model_performance_preservation"]
    assert ours == pytest.approx(recorded, rel=1e-3)
    weights = saecore.evaluate(sae, evaluators=["geometry"])
    assert weights.data == {}
    assert weights.figure("encoder_norm").tokens == 0
    with pytest.raises(KeyError, match='did you mean "encoder_norm"'):
        weights.figure("encoder_norms")


def test_recorded_from_activations():
    """A synthetic dataset needs no model; evaluators that need one are skipped."""
    sae = sae_of(torch.eye(6), torch.eye(6))
    evaluation = saecore.evaluate(
        sae,
        evaluators=["ground_truth", "reconstruction", "loss_recovered"],
        dataset="synthetic",
        settings=["dataset.features=12", "dataset.d_in=6", "evaluation.tokens=300"],
    )
    assert evaluation.figure("mcc").tokens == 300
    assert evaluation.measured.skipped == {
        "loss_recovered": "needs a language model, and this evaluation has none"
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--evaluators", "reconstructoin"), 'did you mean "reconstruction"'),
        (("--set", "geometri.duplicate=0.5"), "geometri: expected a key of model, dataset"),
        (("--set", "geometry.duplicat=0.5"), "geometry.duplicat: unknown key"),
        (("--set", "model.hook=blocks.1.mlp.hook_post"), "has size 1024, the SAE takes 256"),
        (("--set", "dataset.context_size=100000"), "takes at most"),
    ],
)
def test_errors(trained, capsys, words, message):
    """An error is one line that names the setting."""
    assert command(trained[0].directory, *words) == 2
    assert message in capsys.readouterr().err


def test_what_is_not_known(tmp_path):
    """Errors for an SAE without text, and a run without an SAE, say what to do."""
    sae = saecore.SAE.load_from_disk(MODEL / "sae_mlp")

    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({"hook_name": "h"}))
    with pytest.raises(ConfigError, match="give --dataset") as error:
        saecore.evaluate(sae)
    assert "give --model" in str(error.value)
    (tmp_path / "experiment.json").write_text('{"experiment": {"name": "x"}}')
    with pytest.raises(CheckpointError, match="has not ended"):
        saecore.evaluate(tmp_path)


def test_mlflow(trained, monkeypatch):
    """Figures are logged to the run's own entry, at its last step."""
    calls = []

    class Recorder:
        def __init__(self, config, directory):
            calls.append(("made", directory))

        def start(self, info):
            calls.append(("start", info.name, info.id, info.resumed_at, info.parameters["sae"]))

        def scalars(self, step, values):
            calls.append(("scalars", step, values["evaluation/decoder_norm"]))

        def artifact(self, path):
            raise AssertionError("nothing was written")

        def close(self):
            calls.append(("close",))

    monkeypatch.setattr("saecore_plugins.loggers.mlflow.MLflow", Recorder)
    directory = trained[0].directory
    assert command(directory, "--evaluators", "geometry", "--mlflow") == 0
    norm = float(trained[0].sae.W_dec.detach().norm(dim=1).mean())
    assert calls == [
        ("made", directory),
        ("start", "small", directory.name, 4, str(directory)),
        ("scalars", 4, pytest.approx(norm)),
        ("close",),
    ]
