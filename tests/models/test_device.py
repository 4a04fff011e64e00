"""A device that this machine does not have is one typed line, wherever it is named."""

import pytest
import torch

import saecore
from saecore.config import structure_experiment
from saecore.errors import ConfigError
from saecore.models.device import check_device, pick_device
from tests.conftest import DATA

SAE = DATA / "oracle" / "model" / "sae_mlp"

TABLES = {
    "model": {"type": "tiny_lm", "hook": "blocks.1.hook_resid_post", "device": "cuda"},
    "dataset": {"type": "python_corpus"},
    "sae": {"architecture": "topk", "d_sae": 64, "k": 4},
    "training": {"tokens": 10_000},
}


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch, tmp_path):
    """A machine without CUDA, and a directory to write in."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.chdir(tmp_path)


def runner(**settings):
    """Train with the front that users of SAELens know."""
    config = saecore.LanguageModelSAERunnerConfig(device="cuda", training_tokens=8192, **settings)
    return saecore.SAETrainingRunner(config).run()


@pytest.mark.parametrize(
    "call",
    [
        lambda: saecore.run(structure_experiment(TABLES)),
        lambda: saecore.evaluate(SAE, model="tiny_lm", dataset="python_corpus",
                                 settings={"model.device": "cuda"}),
        lambda: saecore.SAE.load_from_disk(SAE, device="cuda"),
        lambda: saecore.SAE.load_from_disk(SAE, device=torch.device("cuda", 1)),
        lambda: saecore.SAE.from_pretrained(SAE, device="cuda"),
        lambda: saecore.HookedSAETransformer.from_pretrained("tiny_lm", device="cuda"),
        lambda: pick_device("cuda:3"),
        runner,
    ],
    ids=["run", "evaluate", "load_from_disk", "device object", "from_pretrained", "model",
         "pick_device", "runner"],
)  # fmt: skip
def test_cuda_without_cuda(call):
    """Every public call that takes a device raises the error that the command line prints."""
    with pytest.raises(ConfigError, match=r'device: this machine has no cuda.*use .*"cpu"'):
        call()


def test_names_that_are_no_device():
    """A misspelled device is named, too; devices without a limit are accepted."""
    for call in (lambda: saecore.SAE.load_from_disk(SAE, device="cud"),
                 lambda: saecore.SAE.from_pretrained(SAE, device="gpu")):  # fmt: skip
        with pytest.raises(ConfigError, match="expected a torch device"):
            call()
    assert check_device("meta", "device") == torch.device("meta")
    assert check_device("cpu", "device") == torch.device("cpu")
