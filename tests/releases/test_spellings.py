"""Every call and command that takes the name of an SAE takes every spelling of it."""

import json

import pytest
import torch
from click.testing import CliRunner

from saecore import SAE, upload_saes_to_huggingface
from saecore.analysis.text import open_sae_with_text
from saecore.cli import cli
from saecore.errors import CheckpointError, ConfigError, ReleaseError
from saecore.evaluation.target import resolve_target
from saecore.releases import catalogue
from saecore.releases.resolve import resolve
from tests.releases.sample import HOOK, text, tiny_lm_sae  # noqa: F401 (text is a fixture)
from tests.releases.test_publish import REPO, TOKEN, files

X = torch.randn(5, 256, generator=torch.Generator().manual_seed(0))
RELEASE, SAE_ID = "gpt2-small-res-jb", "blocks.8.hook_resid_pre"

SPELLINGS = {
    "a run": "runs/x",
    "a run, absolute": "{tmp}/runs/x",
    "an SAE": "runs/x/sae",
    "a directory that contains an SAE": "{tmp}/nested",
    "a file": "SAE-Res-tiny_lm-W1K-L0_5/layer1.sae.pt",
    "directory:path": "./runs:x/sae",
    "release:sae_id": f"{RELEASE}:{SAE_ID}",
    "user/repo:path": "someone/saes:a/b",
}


@pytest.fixture(params=SPELLINGS)
def name(request, hub, tmp_path, text, monkeypatch):  # noqa: F811
    """One spelling; all of them are of the same weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    sae = tiny_lm_sae(neuronpedia_id="gpt2-small/8-res-jb")
    for directory in ("runs/x/sae", "nested/deep"):
        sae.save_model(tmp_path / directory)
    model = {"type": "tiny_lm", "hook": HOOK, "device": "cpu"}
    dataset = {"type": "text_files", "paths": [text], "context_size": 64, "held_out": 0.3}
    record = {"experiment": {"name": "x", "model": model, "dataset": dataset}}
    (tmp_path / "runs/x/experiment.json").write_text(json.dumps(record))
    (tmp_path / "SAE-Res-tiny_lm-W1K-L0_5").mkdir()
    tensors = {"W_enc": sae.W_enc.T, "W_dec": sae.W_dec.T, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
    torch.save({key: tensor.detach().clone() for key, tensor in tensors.items()},
               tmp_path / "SAE-Res-tiny_lm-W1K-L0_5/layer1.sae.pt")  # fmt: skip
    content = {file.name: file.read_bytes() for file in (tmp_path / "nested/deep").iterdir()}
    entry = catalogue.entry(RELEASE, SAE_ID)
    hub.put("someone/saes", {f"a/b/{file}": data for file, data in content.items()})
    hub.put(entry.repository, {f"{entry.path}/{file}": data for file, data in content.items()})
    return SPELLINGS[request.param].format(tmp=tmp_path)


def same(sae):
    """Whether an SAE computes what the one of all spellings does."""
    torch.testing.assert_close(sae(X), tiny_lm_sae()(X))
    return True


def measured(name, *words):
    """Run a command that reads text; the file's contexts are longer than the model takes."""
    if not name.endswith(".pt"):
        return command(*words)
    with pytest.raises(ConfigError, match="takes at most 256 tokens, got 1024"):
        command(*words)
    return None


def command(*words):
    """Run the command line; its output."""
    result = CliRunner().invoke(cli, list(map(str, words)), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def from_pretrained(name, text, hub):  # noqa: F811
    """`SAE.from_pretrained`."""
    assert same(SAE.from_pretrained(name).sae)


def load_from_disk(name, text, hub):  # noqa: F811
    """`SAE.load_from_disk`."""
    assert same(SAE.load_from_disk(name))


def target(name, text, hub):  # noqa: F811
    """What `saecore.evaluate` measures: a run is known as one, with its tables."""
    found = resolve_target(name)
    assert same(found.sae)
    assert (
        (found.run is not None) == ("paths" in found.tables["dataset"]) == name.endswith("runs/x")
    )


def with_text(name, text, hub):  # noqa: F811
    """What a dashboard and `features` look at."""
    assert same(open_sae_with_text(name, model="tiny_lm", dataset=text).sae)


def upload(name, text, hub):  # noqa: F811
    """`upload_saes_to_huggingface`; the experiment of a run goes along."""
    upload_saes_to_huggingface({"new": name}, REPO, TOKEN)
    assert same(SAE.from_pretrained(REPO, "new").sae)
    assert ("new/experiment.json" in files(hub)) == name.endswith("runs/x")


def push(name, text, hub):  # noqa: F811
    """`saecore push`."""
    command("push", name, "--repo", REPO, "--id", "new")
    assert same(SAE.from_pretrained(REPO, "new").sae)


def convert(name, text, hub):  # noqa: F811
    """`saecore convert`."""
    command("convert", name, "out", "--to", "saelens")
    assert same(SAE.load_from_disk("out"))


def pull(name, text, hub):  # noqa: F811
    """`saecore pull`."""
    command("pull", name, "--to", "out")
    assert same(SAE.load_from_disk("out"))


def verify_release(name, text, hub):  # noqa: F811
    """`saecore verify-release`."""
    words = ("--model", "tiny_lm", "--dataset", text, "--tokens", 512, "--tolerance", 100)
    output = measured(name, "verify-release", name, *words)
    assert output is None or "explained variance" in output


def evaluate(name, text, hub):  # noqa: F811
    """`saecore evaluate`."""
    words = ("--model", "tiny_lm", "--dataset", text, "--set", "evaluation.tokens=512", "--set",
             "dataset.context_size=64", "--evaluators", "reconstruction")  # fmt: skip
    assert "explained_variance" in command("evaluate", name, *words)


def dashboard(name, text, hub):  # noqa: F811
    """`saecore dashboard`."""
    words = ("--model", "tiny_lm", "--dataset", text, "--tokens", 512, "--features", "0-1", "--set",
             "dataset.context_size=64")  # fmt: skip
    assert "wrote" in command("dashboard", name, *words)


def neuronpedia(name, text, hub):  # noqa: F811
    """`saecore neuronpedia url`; a format without the id is refused by name."""
    if name.endswith(".pt"):
        with pytest.raises(ReleaseError, match="is not recorded"):
            command("neuronpedia", "url", name, 3)
    else:
        assert "gpt2-small/8-res-jb/3" in command("neuronpedia", "url", name, 3)


def neuronpedia_export(name, text, hub):  # noqa: F811
    """`saecore neuronpedia export`."""
    words = ("--set", "s", "--creator", "me", "--title", "T", "--model", "tiny_lm", "--dataset",
             text, "--tokens", 512, "--features", "0-1")  # fmt: skip
    output = measured(name, "neuronpedia", "export", name, "out", *words)
    assert output is None or "dashboards" in output


@pytest.mark.parametrize(
    "call",
    [from_pretrained, load_from_disk, target, with_text, upload, push, convert, pull,
     verify_release, evaluate, dashboard, neuronpedia, neuronpedia_export],
)  # fmt: skip
def test_every_spelling(call, name, text, hub):  # noqa: F811
    """Whatever takes the name of an SAE takes this spelling, and gets these weights."""
    call(name, text, hub)


def test_without_an_sae(tmp_path, monkeypatch):
    """A run that has not ended, an SAE named twice, a file with an id: one line with what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "experiment.json").write_text('{"experiment": {"name": "x"}}')
    (tmp_path / "file.pt").touch()
    with pytest.raises(CheckpointError, match=r"begun: the run has not ended.*--resume begun"):
        SAE.from_pretrained("begun")
    with pytest.raises(ReleaseError, match=r"a:b: already names an SAE; leave out 'c'"):
        resolve("a:b", "c")
    with pytest.raises(ReleaseError, match=r"file.pt: is a file, .*; leave out 'x'"):
        resolve("file.pt", "x")
    with pytest.raises(ReleaseError, match="a directory has no revisions"):
        resolve("begun", revision="main")


def test_a_published_directory(tmp_path):
    """An SAE that was published from a run has its experiment beside it, and is no run."""
    tiny_lm_sae().save_model(tmp_path)
    (tmp_path / "experiment.json").write_text('{"experiment": {"name": "x"}}')
    location = resolve(tmp_path)
    assert (location.path, location.run) == (".", None)
