"""Publishing through the hub's own client, to a local hub: what is there afterwards."""

import json
import traceback

import attrs
import pytest
import torch
import yaml

from saecore import SAE, upload_saes_to_huggingface
from saecore.core.sae_config import Metadata
from saecore.errors import ConflictError, ReleaseError
from saecore.releases.card import BEGIN, END
from saecore.storage import hub as module
from tests.hub_answers import BAD_TOKEN
from tests.releases.saes import changed, kind
from tests.releases.sample import finished_run, saved

REPO = "username/my-saes"
TOKEN = "hf_secret"
HOOK = "blocks.8.hook_resid_pre"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Retries wait for nothing."""
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


@pytest.fixture
def sae(tmp_path):
    """An SAE on disk."""
    return saved(tmp_path / "made")


@pytest.fixture
def a_run(tmp_path):
    """The directory of a run that ended."""
    return finished_run(tmp_path / "run")


def files(hub, name=REPO):
    """What the main branch of a repository has."""
    stored = hub.repositories[name]
    return stored.commits[stored.branches["main"]]


def commits(hub):
    """How many commits were made."""
    return sum("/commit/" in one for one in hub.asked)


def test_the_reference_example(hub, sae):
    """The reference's call runs as written; who loads the SAE gets the same features, and the
    token is nowhere but in requests.
    """
    done = upload_saes_to_huggingface(
        saes=[sae],
        repo_id="username/my-saes",
        token=TOKEN,
    )
    assert commits(hub) == 1
    assert set(done.files) == {f"{HOOK}/cfg.json", f"{HOOK}/sae_weights.safetensors", "README.md"}
    loaded = SAE.from_pretrained(REPO, HOOK)
    x = torch.randn(4, 6)
    assert torch.equal(loaded.sae(x), sae(x))
    assert loaded.sae.cfg.metadata.source["commit"] == done.commit
    assert not any(TOKEN.encode() in one for one in files(hub).values())
    assert TOKEN not in repr(done)


def test_a_run(hub, a_run):
    """Evaluation and experiment stand beside the SAE, held-out figures are in its metadata, and
    neither paths of the machine nor where it was logged are published.
    """
    upload_saes_to_huggingface([a_run], REPO, TOKEN, license="mit")
    there = files(hub)
    assert {one.rpartition("/")[2] for one in there} == {
        ".gitattributes", "README.md", "cfg.json", "sae_weights.safetensors",
        "sparsity.safetensors", "evaluation.json", "experiment.json",
    }  # fmt: skip
    loaded = SAE.from_pretrained(REPO, HOOK)
    assert loaded.sae.cfg.metadata.l0 == 2.75
    assert loaded.sae.cfg.metadata.variance_explained == 0.8125
    assert loaded.sparsity.shape == (20,)
    record = json.loads(there[f"{HOOK}/experiment.json"])["experiment"]
    assert record == {
        "name": "x",
        "sae": {"k": 3},
        "dataset": {"type": "text_files", "paths": ["texts"]},
    }
    assert not any(word in one for one in there.values() for word in (b"somebody", b"me:pass"))


def test_the_card(hub, a_run):
    """The card says how to load the SAE in saecore and SAELens, its figures, text and license; its
    header is YAML that the hub reads.
    """
    upload_saes_to_huggingface({"a/b": a_run}, REPO, TOKEN, license="mit")
    card = files(hub)["README.md"].decode()
    header = yaml.safe_load(card.split("---")[1])
    assert header == {
        "library_name": "saelens",
        "license": "mit",
        "tags": ["sparse-autoencoder", "saecore"],
    }
    assert 'sae, cfg_dict, sparsity = SAE.from_pretrained("username/my-saes", "a/b")' in card
    assert "from sae_lens import SAE" in card
    row = next(one for one in card.splitlines() if one.startswith("| `a/b`"))
    cells = [one.strip() for one in row.strip("|").split("|")]
    assert cells == [
        "`a/b`",
        "topk",
        "6",
        "20",
        HOOK,
        "gpt2-small",
        "texts",
        "1,000,000",
        "2.75",
        "0.8125",
        "0.9871",
    ]


def test_an_architecture_that_saelens_lacks(hub):
    """It is published and loads; the card does not promise that SAELens reads it."""
    sae = kind("crosscoder")
    upload_saes_to_huggingface([sae], REPO, TOKEN)
    loaded = SAE.from_pretrained(REPO, "blocks.3.hook_resid_post").sae
    x = torch.randn(3, 2, 6)
    torch.testing.assert_close(loaded(x), sae.to_inference()(x))
    card = files(hub)["README.md"].decode()
    assert "SAELens has no such architecture" in card
    assert "library_name: saecore" in card


def test_what_saelens_would_read_wrongly(hub):
    """A transcoder that scales its input is refused, for SAELens would not."""
    sae = changed(kind("transcoder"), normalize_activations="constant_norm_rescale")
    with pytest.raises(ReleaseError, match="SAELens would ignore the"):
        upload_saes_to_huggingface([sae], REPO, TOKEN)
    assert not hub.repositories


def test_rows_are_added(hub, sae, a_run):
    """A second upload adds its row to the card and leaves all other text and SAEs alone."""
    upload_saes_to_huggingface({"one": sae}, REPO, TOKEN)
    own = files(hub)["README.md"].decode().replace("## Load", "## My own words\n\n## Load")
    hub.put(REPO, {"README.md": own.encode()})
    upload_saes_to_huggingface({"two": a_run}, REPO, TOKEN)
    card = files(hub)["README.md"].decode()
    assert "## My own words" in card
    rows = card.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    assert [one.split("`")[1] for one in rows] == ["one", "two"]
    assert {"one/cfg.json", "two/cfg.json"} <= set(files(hub))


def test_a_card_of_ones_own(hub, sae):
    """A README without our table stays as it is, and the user is told."""
    hub.put(REPO, {"README.md": b"# Mine\n"})
    done = upload_saes_to_huggingface([sae], REPO, TOKEN, overwrite=True)
    assert files(hub)["README.md"] == b"# Mine\n"
    assert "README.md was not written by saecore" in done.notes[0]


def test_nothing_is_replaced_unasked(hub, sae, tmp_path):
    """Other content under the same name is refused before anything is sent; the same content is no
    commit; overwrite=True replaces.
    """
    upload_saes_to_huggingface([sae], REPO, TOKEN)
    again = upload_saes_to_huggingface([sae], REPO, TOKEN)
    assert (again.files, commits(hub)) == ((), 1)
    before = dict(files(hub))
    with torch.no_grad():
        sae.b_dec.add_(1.0)
    with pytest.raises(ConflictError, match=rf"1 of these names \({HOOK}/sae_weights"):
        upload_saes_to_huggingface([sae], REPO, TOKEN)
    assert files(hub) == before
    done = upload_saes_to_huggingface([sae], REPO, TOKEN, overwrite=True)
    assert done.files == (f"{HOOK}/sae_weights.safetensors",)


def test_somebody_else_meanwhile(hub, sae, monkeypatch):
    """A commit that comes between looking and writing is not built upon unseen."""
    from huggingface_hub import HfApi

    upload_saes_to_huggingface([sae], REPO, TOKEN)
    real = HfApi.create_commit

    def late(self, *args, **options):
        hub.put(REPO, {"new/cfg.json": b"{}"})
        return real(self, *args, **options)

    monkeypatch.setattr(HfApi, "create_commit", late)
    with pytest.raises(ReleaseError, match="another commit was made at the same time"):
        upload_saes_to_huggingface({"new": sae}, REPO, TOKEN)
    assert files(hub)["new/cfg.json"] == b"{}"


def test_busy_hub(hub, sae):
    """An upload that meets 503 twice is tried again."""
    hub.fail(r"POST /api/models/.*/commit/", 503, times=2)
    upload_saes_to_huggingface([sae], REPO, TOKEN)
    assert SAE.from_pretrained(REPO, HOOK).sae.cfg.d_sae == 20


REFUSALS = {
    "no token": (None, {}, r"publishing needs a login; run `hf auth login`"),
    "bad token": (BAD_TOKEN, {}, r"the hub does not accept this token; create one"),
    "may not": (
        TOKEN,
        {"POST /api/repos/create": 403},
        r"this token has no write access.*username",
    ),
    "offline": (TOKEN, "offline", r"HF_HUB_OFFLINE is set"),
    "too often": (TOKEN, {"/api/models/": 429}, r"the hub returned 429; try again later"),
    "down": (TOKEN, "closed", r"cannot be reached; check the network"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_hub_errors(hub, sae, monkeypatch, case):
    """Every error of the hub is one line that says what to do, without the token, even in the
    traceback.
    """
    from huggingface_hub import constants

    token, failures, match = REFUSALS[case]
    if failures == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif failures == "closed":
        hub.close()
    else:
        for pattern, status in failures.items():
            hub.fail(pattern, status, times=99)
    with pytest.raises(ReleaseError, match=match) as caught:
        upload_saes_to_huggingface([sae], REPO, token)
    assert "\n" not in str(caught.value)
    said = "".join(traceback.format_exception(caught.value))
    assert token is None or token not in said


def test_names(hub, sae):
    """Two SAEs of one hook, one without a hook, and names that are no paths are refused."""
    with pytest.raises(ReleaseError, match="two SAEs would be named"):
        upload_saes_to_huggingface([sae, sae], REPO, TOKEN)
    with pytest.raises(ReleaseError, match="expected at least one SAE"):
        upload_saes_to_huggingface([], REPO, TOKEN)
    for name in ("../up", "a//b", "", "a`b"):
        with pytest.raises(ReleaseError, match="is not a valid file name"):
            upload_saes_to_huggingface({name: sae}, REPO, TOKEN)
    with pytest.raises(ReleaseError, match="expected username/repo-name"):
        upload_saes_to_huggingface([sae], "my-saes", TOKEN)
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({}))
    with pytest.raises(ReleaseError, match="metadata names no hook"):
        upload_saes_to_huggingface([sae], REPO, TOKEN)
    assert not hub.repositories


def test_a_card_of_a_figure_that_is_not_finite():
    """evaluation.json has null for it; the card leaves the figure out."""
    from saecore.releases.card import figure

    evaluation = {"a": {"l0": {"value": None}}, "b": {"mse": {"value": 2}}}
    assert [figure(evaluation, name) for name in ("l0", "mse", "other")] == [None, 2.0, None]
