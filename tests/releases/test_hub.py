"""Downloads through the hub's own client, from a local hub: only what is whole loads."""

import subprocess
import sys

import pytest
import torch
from huggingface_hub import HfApi, constants

from saecore import SAE
from saecore.errors import ReleaseError
from saecore.storage import hub as module
from saecore.storage.hub import Hub
from tests.hub_answers import BAD_TOKEN
from tests.releases.sample import saved

REPOSITORY = "someone/saes"


@pytest.fixture
def sae(hub, tmp_path):
    """A published SAE: `layer_8` of the repository."""
    made = saved(tmp_path / "made" / "layer_8")
    hub.put(REPOSITORY, tmp_path / "made")
    return made


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Retries wait for nothing."""
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


def load(**options):
    """The published SAE as a user loads it."""
    return SAE.from_pretrained(REPOSITORY, "layer_8", **options)


def refused(match, **options):
    """Loading fails with one line that matches."""
    with pytest.raises(ReleaseError, match=match) as caught:
        load(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def downloads(hub):
    """Files whose content was asked for."""
    return [one for one in hub.asked if one.startswith("GET") and "/resolve/" in one]


def test_download_then_cache(hub, sae):
    """The first load downloads three files, the next none, and both give the same SAE; a forced
    one downloads again.
    """
    first = load()
    x = torch.randn(4, 6)
    assert torch.equal(first.sae(x), sae(x))
    assert first.sparsity.shape == (20,)
    assert len(downloads(hub)) == 3
    assert torch.equal(load()[0](x), sae(x))
    assert len(downloads(hub)) == 3
    load(force_download=True)
    assert len(downloads(hub)) == 6


def test_the_commit_is_recorded(hub, sae, tmp_path):
    """Metadata say which commit of which repository was read, for a branch, a tag and a commit."""
    first = hub.repositories[REPOSITORY].branches["main"]
    saved(tmp_path / "other" / "layer_8", architecture="topk")
    second = hub.put(REPOSITORY, tmp_path / "other")
    assert load().sae.cfg.architecture == "topk"
    assert load().sae.cfg.metadata.source["commit"] == second
    before, table, _ = load(revision=first)
    assert before.cfg.architecture == "standard"
    assert table["metadata"]["source"] == {
        "format": "saelens", "repository": REPOSITORY, "commit": first, "path": "layer_8"
    }  # fmt: skip


def test_offline(hub, sae, monkeypatch):
    """With HF_HUB_OFFLINE the cache is used, its listing too; what is not in it is an error."""
    load()
    asked = len(hub.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(load().sae.W_dec, sae.W_dec)
    files = Hub(REPOSITORY)
    assert set(files.files) == {
        f"layer_8/{one}.{end}"
        for one, end in (
            ("cfg", "json"),
            ("sae_weights", "safetensors"),
            ("sparsity", "safetensors"),
        )
    }
    assert len(hub.asked) == asked
    with pytest.raises(ReleaseError, match="HF_HUB_OFFLINE is set, and it is not in the"):
        SAE.from_pretrained("someone/else", "layer_8")
    with pytest.raises(ReleaseError, match=r"layer_9/cfg.json is not in the cache"):
        files.path("layer_9/cfg.json")


def test_no_network(hub, sae):
    """Without a network the cache is used, with a warning; without a cache it is an error."""
    load()
    hub.close()
    with pytest.warns(UserWarning, match="cannot be reached; someone/saes is read from the cache"):
        assert torch.equal(load().sae.W_dec, sae.W_dec)
    with pytest.raises(ReleaseError, match="cannot be reached, and it is not in the cache"):
        SAE.from_pretrained("someone/else", "layer_8")


@pytest.mark.parametrize("file", ["cfg.json", "sae_weights.safetensors"])
def test_wrong_content_is_refused(hub, sae, file):
    """What does not have the hash that the hub lists is not loaded and does not stay in the cache;
    hashes are checked at the download only.
    """
    hub.fail(rf"GET /.*/resolve/.*{file}", "corrupt")
    refused(rf"layer_8/{file}: the download does not match the hash")
    assert torch.equal(load().sae.W_dec, sae.W_dec)


def test_a_cut_download_is_taken_up(hub, sae):
    """A connection that breaks is taken up where it broke."""
    hub.fail(r"GET /.*/resolve/.*weights", "cut")
    assert torch.equal(load().sae.W_dec, sae.W_dec)
    assert len([one for one in downloads(hub) if "weights" in one]) == 2


@pytest.mark.parametrize(
    "request_", [r"GET /api/models/[^/]+/[^/]+$", "GET .*/tree/", "GET .*/resolve/"]
)
def test_a_busy_hub_is_asked_again(hub, sae, request_):
    """Two answers of 503 are survived, wherever they come."""
    hub.fail(request_, 503, times=2)
    assert torch.equal(load().sae.W_dec, sae.W_dec)


def test_a_broken_hub_is_named(hub, sae):
    """An answer of 503 for good ends in one line."""
    hub.fail(r"GET /api/models", 503, times=100)
    refused("someone/saes: the hub returned 503; try again later")


def test_gated(hub, sae, monkeypatch):
    """A gated repository says where to ask for access, with and without a token."""
    hub.gated.add(REPOSITORY)
    page = f"{hub.url}/{REPOSITORY}"
    assert page in refused("its authors grant access on request")
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    assert "hf_canary" not in refused("its authors grant access on request")


def test_names_that_are_not_there(hub, sae):
    """Missing repositories, revisions, SAEs and files: one line each, with what is near."""
    with pytest.raises(
        ReleaseError, match=r'no such repository; did you mean "google/gemma-scope-2b-pt-res"'
    ):
        SAE.from_pretrained("google/gemma-scope-2b-pt-rse", "layer_0/width_16k")
    refused("no revision 'v9'; expected a branch, a tag or a commit", revision="v9")
    with pytest.raises(ReleaseError, match=r"no known format .*; someone/saes has the SAEs: lay"):
        SAE.from_pretrained(REPOSITORY, "layer_9")
    with pytest.raises(
        ReleaseError, match=r'no file layer_8/cfgg.json; did you mean "layer_8/cfg.'
    ):
        Hub(REPOSITORY).path("layer_8/cfgg.json")


def test_a_refused_token(hub, sae, monkeypatch):
    """A token that expired is named as the reason, and not printed."""
    monkeypatch.setenv("HF_TOKEN", BAD_TOKEN)
    assert BAD_TOKEN not in refused("the hub does not accept this machine's token")


def test_a_cache_that_cannot_be_written(hub, sae, tmp_path, monkeypatch):
    """A cache that cannot be written is named with the variable that moves it."""
    file = tmp_path / "a file, no directory"
    file.touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(file / "hub"))
    refused("cannot be written to the cache .*set HF_HUB_CACHE")


def test_listings_come_in_pages(hub, sae):
    """A listing of several pages is whole."""
    hub.put(REPOSITORY, {f"extra/{i}.txt": b"x" for i in range(7)})
    hub.page = 3
    assert len(Hub(REPOSITORY).files) == 10


def test_names_from_a_listing_cannot_escape(hub):
    """A file that a repository lists above itself is not read."""
    hub.put("someone/evil", {"../outside.json": b"{}"})
    with pytest.raises(ReleaseError, match="is not the name of a file"):
        Hub("someone/evil").path("../outside.json")


def test_a_process_that_starts_with_the_hub(hub, sae):
    """HF_ENDPOINT in the environment is all that a fresh process needs."""
    call = f"SAE.from_pretrained({REPOSITORY!r}, 'layer_8')"
    code = f"from saecore import SAE; print({call}[0].cfg.d_sae)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "20\n"


def test_commits(hub):
    """What the client commits can be downloaded: small files, LFS files, changes and deletions."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = HfApi(token="hf_mine")
    api.create_repo("username/new")
    api.create_repo("username/new", exist_ok=True)
    files = {"cfg.json": b"{}", "w.safetensors": b"12345678" * 100, "README.md": b"---\n---\nhello"}
    operations = [CommitOperationAdd(name, data) for name, data in files.items()]
    commit = api.create_commit("username/new", operations, commit_message="first").oid
    for name, data in files.items():
        assert Hub("username/new").path(name).read_bytes() == data
    assert Hub("username/new").commit == commit
    api.create_commit("username/new", [CommitOperationDelete("cfg.json")], commit_message="less")
    assert "cfg.json" not in Hub("username/new").files
    with pytest.raises(Exception, match="401"):
        HfApi(token=False).create_commit(
            "username/new", [CommitOperationAdd("a", b"a")], commit_message="without a token"
        )
