"""Names of published SAEs: what they stand for, what is refused, what stays with the SAE."""

import json
import pickle

import attrs
import pytest
import torch
from safetensors.torch import save_file

from saecore import SAE
from saecore.core.catalogue import Entry
from saecore.core.release import CatalogueFacts
from saecore.errors import ReleaseError
from saecore.plugins.component import Component
from saecore.plugins.host import Host, use_host
from saecore.releases import catalogue
from saecore.releases.load import Loaded, load
from saecore.releases.resolve import resolve
from saecore.storage.repository import Directory
from tests.releases.sample import saved

RELEASE, SAE_ID = "gpt2-small-res-jb", "blocks.8.hook_resid_pre"
REPOSITORY = "jbloom/GPT2-Small-SAEs-Reformatted"
X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def published(hub, tmp_path):
    """The SAE that the reference's example loads, on the local hub."""
    sae = saved(tmp_path / "made" / SAE_ID)
    hub.put(REPOSITORY, tmp_path / "made")
    return sae


def test_the_examples_of_the_reference(published, tmp_path, monkeypatch):
    """A catalogue's release, a hub repository and a directory give the same SAE in three parts."""
    monkeypatch.chdir(tmp_path)
    sae, cfg_dict, sparsity = SAE.from_pretrained(release=RELEASE, sae_id=SAE_ID, device="cpu")
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.hook_name) == (6, 20, SAE_ID)
    assert cfg_dict["d_sae"] == 20
    assert sparsity.shape == (20,)
    for release in (REPOSITORY, "made", "./made", str(tmp_path / "made")):
        again, _, _ = SAE.from_pretrained(release=release, sae_id=SAE_ID, device="cpu")
        assert torch.equal(again(X), sae(X))
    assert torch.equal(SAE.load_from_disk(str(tmp_path / "made" / SAE_ID), device="cpu")(X), sae(X))
    assert torch.equal(SAE.from_pretrained(tmp_path / "made" / SAE_ID).sae(X), sae(X))
    same = SAE.from_pretrained_with_cfg_and_sparsity(RELEASE, SAE_ID)
    assert torch.equal(same.sae(X), sae(X))


def test_what_the_catalogue_knows_stays_with_the_sae(published):
    """Figures, Neuronpedia's id, corrected settings and where it came from are in the metadata."""
    metadata = SAE.from_pretrained(RELEASE, SAE_ID).sae.cfg.metadata
    assert (metadata.l0, metadata.variance_explained) == (60.0, 0.9)
    assert metadata.neuronpedia_id == "gpt2-small/8-res-jb"
    assert metadata.model_from_pretrained_kwargs == {"center_writing_weights": True}
    source = metadata.source
    assert (source["release"], source["sae_id"]) == (RELEASE, SAE_ID)
    assert (source["repository"], source["path"]) == (REPOSITORY, SAE_ID)


def test_used_as_an_sae(published):
    """The three parts are no SAE; calling them or asking for its methods says how to unpack."""
    loaded = SAE.from_pretrained(RELEASE, SAE_ID)
    assert isinstance(loaded, Loaded)
    with pytest.raises(
        AttributeError, match=r"no 'encode': .*unpack it first: sae, cfg_dict, sparsity = SAE"
    ):
        loaded.encode(X)
    with pytest.raises(
        TypeError, match=r"not an SAE: .*unpack it first: sae, cfg_dict, sparsity = SAE"
    ):
        loaded(X)


def test_precision_and_norms(tmp_path):
    """The argument beats the file's precision, float32 if nothing is said; None takes the file's.
    Folded decoder rows have norm 1 and the reconstruction stays.
    """
    sae = saved(tmp_path)
    sae.to(torch.bfloat16)
    sae.cfg = attrs.evolve(sae.cfg, dtype="bfloat16")
    sae.save_model(tmp_path / "low")
    low = str(tmp_path / "low")
    plain, table, _ = SAE.from_pretrained(low)
    assert plain.W_dec.dtype == torch.float32
    assert table["dtype"] == plain.cfg.dtype == "float32"
    assert SAE.from_pretrained(low, dtype=None).sae.W_dec.dtype == torch.bfloat16
    assert SAE.from_pretrained(low, dtype="float64").sae.W_dec.dtype == torch.float64
    folded = SAE.from_pretrained(low, fold_W_dec_norm=True).sae
    torch.testing.assert_close(folded.W_dec.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(folded(X), plain(X))


def test_scaled_activations(tmp_path):
    """An SAE of scaled activations takes the factor of the catalogue; without one it is refused,
    because its features would be wrong.
    """
    sae = saved(tmp_path / "a", normalize_activations="expected_average_only_in")
    files = Directory(tmp_path)
    loaded = load(files, "a", facts=CatalogueFacts(norm_scaling_factor=1.7))
    torch.testing.assert_close(loaded.sae.encode(X), sae.encode(1.7 * X))
    torch.testing.assert_close(loaded.sae(X), sae(1.7 * X) / 1.7)
    assert loaded.cfg_dict["normalize_activations"] == "none"
    with pytest.raises(ReleaseError, match="expected_average_only_in"):
        load(files, "a")


def test_corrections_of_the_catalogue(tmp_path):
    """Settings go where they are read; sizes are the tensors', whatever a catalogue says."""
    saved(tmp_path / "a")
    wrong = {"normalize_activations": "layer_norm", "d_in": 7, "dataset_path": "text"}
    sae, table, _ = load(Directory(tmp_path), "a", facts=CatalogueFacts(overrides=wrong))
    assert sae.cfg.normalize_activations == table["normalize_activations"] == "layer_norm"
    assert sae.cfg.metadata.dataset_path == "text"
    assert sae.cfg.d_in == 6


def test_ambiguous_and_unknown_names(tmp_path, monkeypatch):
    """A directory of the same name, a misspelled release or SAE, and paths that lead out: one line
    each, with what to do.
    """
    monkeypatch.chdir(tmp_path)
    for name in (RELEASE, REPOSITORY):
        (tmp_path / name).mkdir(parents=True)
        with pytest.raises(ReleaseError, match=rf"could be .* or the directory .*write \./{name}"):
            resolve(name, SAE_ID)
    assert resolve(f"./{RELEASE}", "a").path == "a"
    for release, sae_id, message in (
        ("gpt2-small-resjb", SAE_ID, r'did you mean "gpt2-small-res-jb".*`saecore releases` lists'),
        ("gpt2-small-res_sll-ajt", "blocks.2.hook_resid_pr",
         r'did you mean "blocks.2.hook_resid_pre".*`saecore releases show gpt2-small-res_sll-ajt`'),
        ("gpt2-small-res_sll-ajt", "", r"no SAE '' in this release"),
        ("./nothing", "a", "no such directory"),
        ("a/b/c", "", "no such directory"),
        ("../elsewhere", "", "no such directory"),
        ("someone/saes", "../../a", "is not a path in a repository"),
        ("someone/saes", "/etc", "is not a path in a repository"),
        ("someone/saes", "a\0b", "is not a path in a repository"),
        ("someone/saes", "C:\\a", "is not a path in a repository"),
    ):  # fmt: skip
        with pytest.raises(ReleaseError, match=message):
            resolve(release, sae_id)
    with pytest.raises(ReleaseError, match="a directory has no revisions"):
        resolve(f"./{RELEASE}", "a", revision="main")


def test_links_that_leave_a_directory(tmp_path):
    """A link out of the directory is not read; those of the hub's cache into `blobs` are."""
    saved(tmp_path / "blobs")
    for name, target in (("bad", "../secret/cfg.json"), ("good", "../blobs/cfg.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cfg.json").symlink_to(target)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "cfg.json").write_text("{}")
    assert Directory(tmp_path / "good").json("cfg.json")["d_sae"] == 20
    with pytest.raises(ReleaseError, match="a link that leaves the directory"):
        Directory(tmp_path / "bad").json("cfg.json")


def test_a_file_that_no_format_knows(tmp_path):
    """Directories without a known format, and files, are refused with what is there."""
    (tmp_path / "notes.txt").touch()
    unknown = "no known format (`saecore plugins` lists the formats)"
    assert refused(tmp_path) == f"{tmp_path}: {unknown}; {tmp_path} has the files: notes.txt"
    assert refused(tmp_path / "notes.txt") == f"{tmp_path}/notes.txt: {unknown}"
    with pytest.raises(ReleaseError, match="no such directory"):
        SAE.load_from_disk(tmp_path / "nothing")


def refused(place):
    """The message of a directory or file that cannot be loaded."""
    with pytest.raises(ReleaseError) as caught:
        SAE.load_from_disk(place)
    return str(caught.value)


def test_a_directory_that_is_almost_an_sae(tmp_path):
    """What is there and what is missing are named; so are an empty directory and a single file."""
    place = tmp_path / "sae"
    place.mkdir()
    assert refused(place) == f"{place}: has no files; expected the directory of an SAE or a run"
    saved(place)
    config, weights = place / "cfg.json", place / "sae_weights.safetensors"
    assert refused(config) == f"{config}: is one file of an SAE; give its directory, {place}"
    text = config.read_text()
    config.unlink()
    assert refused(place) == (
        f"{place}: has sae_weights.safetensors, but no cfg.json (format saelens)"
    )
    weights.unlink()
    config.write_text(text)
    assert refused(place) == (
        f"{place}: has cfg.json, but no sae_weights.safetensors (format saelens) or "
        "sae.safetensors (format sparsify)"
    )


def test_a_pickle_without_a_format(tmp_path):
    """A file that is a pickle is called one, whatever its name."""
    (tmp_path / "ae.pt").write_bytes(pickle.dumps({"W_enc": [1.0]}))
    assert refused(tmp_path / "ae.pt").startswith(f"{tmp_path}/ae.pt: is a pickle, which can run")


@pytest.mark.parametrize("load", [SAE.load_from_disk, SAE.from_pretrained])
@pytest.mark.parametrize(("key", "wrong", "size"), [("d_sae", 512, 20), ("d_in", 7, 6)])
def test_a_wrong_size_blames_the_file_that_is_wrong(tmp_path, load, key, wrong, size):
    """Encoder and decoder agree, so cfg.json is wrong; the sparsity that fits them is not."""
    saved(tmp_path)
    config = tmp_path / "cfg.json"
    cfg = json.loads(config.read_text())
    config.write_text(json.dumps({**cfg, key: wrong}))
    with pytest.raises(ReleaseError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{config}: {key} = {wrong}, but sae_weights.safetensors has {size}"


def test_a_wrong_sparsity_is_blamed_itself(tmp_path):
    """Where configuration and weights agree, the third file is wrong."""
    saved(tmp_path)
    save_file({"sparsity": torch.zeros(5)}, tmp_path / "sparsity.safetensors")
    with pytest.raises(ReleaseError) as caught:
        SAE.from_pretrained(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/sparsity.safetensors: sparsity: expected 20 numbers, got 5"
    )


def test_own_files_need_no_plugin(tmp_path):
    """With every release plugin blocked, what saecore saved still loads."""
    sae = saved(tmp_path)
    blocked = [f"release.{name}" for name in Host().names("release")]
    use_host(Host(block=blocked))
    try:
        assert torch.equal(SAE.load_from_disk(tmp_path)(X), sae(X))
    finally:
        use_host(None)


class Mine:
    """A third party's catalogue."""

    def __init__(self, config):
        self.config = config

    def names(self):
        """One release of its own and one that the built-in catalogue has."""
        return ["mine", RELEASE]

    def entries(self, release):
        """One SAE."""
        return [
            Entry(
                source="saelens",
                repository="someone/saes",
                path="a",
                facts=CatalogueFacts(release=release, sae_id="first", model="m", hook="hook_embed"),
            )
        ]


def test_a_catalogue_of_a_third_party(tmp_path):
    """Its releases are found beside the others; a release that two catalogues have is refused."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import attrs\n"
        "from saecore import Component, hookimpl\n"
        "@attrs.frozen\n"
        "class Config: pass\n"
        "def build(config):\n"
        "    from tests.releases.test_resolve import Mine\n"
        "    return Mine(config)\n"
        "@hookimpl\n"
        "def saecore_components():\n"
        "    yield Component(kind='catalogue', name='mine', config=Config,"
        " build=build, summary='mine')\n"
    )
    assert Component  # what the file uses
    use_host(Host(files=[file]))
    try:
        place = resolve("mine", "first")
        assert (place.files.name, place.path, place.source) == ("someone/saes", "a", "saelens")
        assert "mine" in catalogue.names()
        with pytest.raises(ReleaseError, match=r"mine and published both have .*--block cat"):
            resolve(RELEASE, SAE_ID)
    finally:
        use_host(None)
