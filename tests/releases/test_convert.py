"""`saecore convert`: the same function in another format, or a refusal that says why."""

import copy

import pytest
import torch

from saecore.cli import main
from saecore.core.sae_config import Metadata
from saecore.errors import ReleaseError, StorageError
from saecore.releases.convert import convert, writer
from saecore.releases.load import Loaded
from saecore.releases.resolve import resolve
from tests.conftest import DATA
from tests.releases.saes import ALL, KINDS, METADATA, changed, kind
from tests.saecore_plugins.architectures.build import make

NAMES = {"standard, hook_z": "gemma-scope-2b-pt-att"}
"""Directories whose name must say another site, for Gemma Scope."""

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def read(place):
    """What was written at a place."""
    return resolve(place).load(dtype="float32").sae


def as_loaded(sae):
    """An SAE as if it had been read."""
    return Loaded(sae, {}, None)


def features_and_reconstruction(sae, x):
    """Both, without gradients."""
    with torch.no_grad():
        return sae.encode(x), sae(x)


@pytest.mark.parametrize("target", sorted(ALL))
@pytest.mark.parametrize("name", KINDS)
def test_round_trip_or_refusal(name, target, tmp_path):
    """Features and reconstructions survive wherever a format can express an SAE, and once more when
    what was written is converted again; elsewhere nothing is written, and the message names key and
    value.
    """
    sae, out = kind(name), tmp_path / NAMES.get(name, "gemma-scope-2b-pt-res")
    given = {key: one.clone() for key, one in sae.state_dict().items()}
    if target not in KINDS[name][1]:
        with pytest.raises(ReleaseError, match=r"\w+ = .* cannot be expressed in the format"):
            convert(as_loaded(sae), target, out)
        assert list(tmp_path.iterdir()) == []
        return
    convert(as_loaded(sae), target, out)
    assert all(torch.equal(given[key], one) for key, one in sae.state_dict().items())
    again = read(out)
    x = torch.randn(3, 8, sae.cfg.d_in)
    wanted = features_and_reconstruction(sae.to_inference().eval(), x)
    assert wanted[0].count_nonzero() > 20
    got = features_and_reconstruction(again, x)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    convert(as_loaded(again), target, tmp_path / "again" / out.name)
    twice = features_and_reconstruction(read(tmp_path / "again" / out.name), x)
    for one, other in zip(twice, got, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert again.cfg.reshape_activations == sae.cfg.reshape_activations
    assert again.cfg.hook_name == sae.cfg.hook_name


@pytest.fixture
def saved(tmp_path):
    """A directory that `SAE.save_model` wrote."""
    kind("topk").save_model(tmp_path / "in", sparsity=torch.full((20,), -2.0))
    return tmp_path / "in"


def run(capsys, *arguments):
    """What the command prints, and its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(["convert", *map(str, arguments)])
    said = capsys.readouterr()
    return caught.value.code or 0, said.out + said.err


def test_command(saved, tmp_path, capsys):
    """A directory in, a directory out; what is not kept is said; nothing else is left behind."""
    code, said = run(capsys, saved, tmp_path / "out", "--to", "dictionary_learning")
    assert code == 0
    assert "wrote    " in said
    assert "note     dataset_path = 'some/text' will be read as 'monology/pile" in said
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["ae.pt", "config.json"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in", "out"]


def test_sparsity_stays(saved, tmp_path, capsys):
    """Firing frequencies go along into the format that keeps them."""
    assert run(capsys, saved, tmp_path / "out", "--to", "saelens")[0] == 0
    assert (tmp_path / "out" / "sparsity.safetensors").exists()
    assert torch.equal(resolve(tmp_path / "out").load().sparsity, torch.full((20,), -2.0))


def test_nothing_is_overwritten(saved, tmp_path, capsys):
    """What is there stays, unless --force is given and it is an SAE of that format and no more."""
    out = tmp_path / "out"
    command = (saved, out, "--to", "dictionary_learning")
    assert run(capsys, *command)[0] == 0
    before = (out / "config.json").stat().st_ino
    code, said = run(capsys, *command)
    assert code == 2
    assert "out: already exists; --force replaces it" in said
    assert (out / "config.json").stat().st_ino == before
    assert run(capsys, *command, "--force")[0] == 0
    assert (out / "config.json").stat().st_ino != before
    (out / "thesis.tex").write_text("years of work")
    code, said = run(capsys, *command, "--force")
    assert code == 2
    assert "has thesis.tex, which is not a file of this format" in said
    assert (out / "thesis.tex").read_text() == "years of work"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in", "out"]


def test_a_failed_write_leaves_nothing(saved, tmp_path, monkeypatch):
    """A disk that is full in the middle: the old directory is whole, and no half of the new one."""
    out = tmp_path / "out"
    convert(resolve(saved).load(), "dictionary_learning", out)
    before = {one.name: one.read_bytes() for one in out.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match="No space left"):
        convert(resolve(saved).load(), "dictionary_learning", out, force=True)
    assert {one.name: one.read_bytes() for one in out.iterdir()} == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in", "out"]


def test_a_writer_that_is_wrong_is_found_out(saved, tmp_path, monkeypatch):
    """What was written is read again: other features are a refusal, whatever the writer thinks."""
    source = type(writer("dictionary_learning"))

    def wrong(self, sae, directory, sparsity=None):
        sae = copy.deepcopy(sae)
        sae.b_enc.data += 0.1
        original(self, sae, directory)

    original = source.write
    monkeypatch.setattr(source, "write", wrong)
    with pytest.raises(ReleaseError, match="features would change"):
        convert(resolve(saved).load(), "dictionary_learning", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("sparsifi", '--to sparsifi: no such format; did you mean "sparsify"?'),
        ("goodfire", "--to goodfire: is read-only (writable: dictionary_learning, "),
    ],
)
def test_formats_that_cannot_be_written(saved, tmp_path, capsys, target, message):
    """Unknown formats, and those that can only be read, in one line."""
    code, said = run(capsys, saved, tmp_path / "out", "--to", target)
    assert code == 2
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1


def test_finding(saved, tmp_path):
    """A file, a directory that is an SAE, one that has one, one that has several, one without."""
    root = DATA / "oracle" / "formats"
    found = resolve(root / "deepseek_r1/l19/repo/DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt")
    assert found.path == "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"
    assert len(found.files.files) == 1
    assert resolve(saved).path == "."
    assert resolve(root / "sparsify/groupmax/repo").path == "layers.2"
    several = root / "mntss_clt_layer_transcoder/layer3/repo"
    with pytest.raises(ReleaseError, match=r"2 SAEs; name one, as in .*:2 \(it has 2, 3\)"):
        resolve(several)
    assert resolve(several, "3").path == resolve(f"{several}:3").path == "3"
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ReleaseError, match="empty: has no files; expected the directory of an SAE or a run"
    ):
        resolve(tmp_path / "empty").load()
    with pytest.raises(ReleaseError, match="no such directory"):
        resolve(tmp_path / "nowhere")


def test_gemma_scope_is_named(saved, tmp_path, capsys):
    """Gemma Scope says model and site in the name, so another name would be another hook."""
    kind("jumprelu").save_model(tmp_path / "jump")
    code, said = run(capsys, tmp_path / "jump", tmp_path / "out", "--to", "gemma_scope")
    assert code == 2
    assert "OUT must end with gemma-scope-2b-pt-res" in said
    out = tmp_path / "gemma-scope-2b-pt-res"
    assert run(capsys, tmp_path / "jump", out, "--to", "gemma_scope")[0] == 0
    assert (out / "layer_3" / "width_20" / "params.npz").exists()


@pytest.mark.parametrize("rank", [0, -1])
def test_thresholds_without_a_logarithm(tmp_path, rank):
    """Llamascopium stores logarithms: thresholds of 0 and below become ReLU, exactly."""
    sae = kind("jumprelu")
    with torch.no_grad():
        sae.threshold[::2] = float(rank)
    convert(as_loaded(sae), "llamascopium", tmp_path / "out")
    x = torch.randn(64, 6)
    torch.testing.assert_close(read(tmp_path / "out").encode(x), sae.encode(x), **CLOSE)


def test_widths_that_are_no_multiple(tmp_path):
    """Llamascopium stores a factor: that of d_sae = 29 and d_in = 7 gives 29 again, not 28."""
    sae = changed(make("standard", d_in=7, d_sae=29), metadata=Metadata(METADATA))
    convert(as_loaded(sae), "llamascopium", tmp_path / "out")
    assert read(tmp_path / "out").cfg.d_sae == 29


@pytest.mark.parametrize(("centered", "stored"), [(False, "bfloat16"), (True, "float32")])
def test_precision(tmp_path, centered, stored):
    """Weights in bfloat16 are written as they are, but in float32 where something is folded in."""
    sae = make("jumprelu", apply_b_dec_to_input=centered).to(torch.bfloat16)
    convert(as_loaded(changed(sae, dtype="bfloat16")), "dictionary_learning", tmp_path / "out")
    tensors = torch.load(tmp_path / "out" / "ae.pt", weights_only=True)
    assert str(tensors["W_dec"].dtype) == f"torch.{stored}"


def test_published_saes(hub, tmp_path, capsys):
    """A release of the catalogue and a repository of the hub are converted by their names."""
    kind("standard").save_model(tmp_path / "made" / "blocks.8.hook_resid_pre")
    hub.put("jbloom/GPT2-Small-SAEs-Reformatted", tmp_path / "made")
    for number, release in enumerate(("gpt2-small-res-jb", "jbloom/GPT2-Small-SAEs-Reformatted")):
        given, out = f"{release}:blocks.8.hook_resid_pre", tmp_path / f"out{number}"
        assert run(capsys, given, out, "--to", "dictionary_learning")[0] == 0
        x = torch.randn(4, 6)
        torch.testing.assert_close(read(out)(x), kind("standard")(x), **CLOSE)
    code, said = run(capsys, given, tmp_path / "no", "--to", "saelens", "--sae", "other")
    assert code == 2
    assert "already names an SAE; leave out 'other'" in said
