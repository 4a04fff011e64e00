"""The kit finds what is wrong with a release source, and says what to change."""

import json

import pytest
import torch

from saecore.testing import Nonconformance, check_release

GOOD = """\
import torch
from saecore.core.release import Draft
from saecore.releases.tensor_reader import Tensors


class Mine:
    def __init__(self, config):
        pass

    def recognize(self, files, path):
        return files.has(f"{path}/mine.pt")

    def list(self, files):
        end = "/mine.pt"
        return [one.removesuffix(end) for one in files.files if one.endswith(end)]

    def load(self, files, path, facts):
        tensors = Tensors(files.torch(f"{path}/mine.pt"), path)
        W = tensors.take("W", 2)
        tensors.end()
        d_sae, d_in = W.shape
        weights = {"W_enc": W.t(), "W_dec": W, "b_enc": W[:, 0], "b_dec": W[0]}
        cfg = {"architecture": "standard", "d_in": d_in, "d_sae": d_sae}
        return Draft(cfg=cfg, tensors=weights)
"""

CARELESS = """\


def careless(path):
    from saecore.errors import ReleaseError

    try:
        return torch.load(path, weights_only=False)
    except Exception as error:
        raise ReleaseError("cannot be read") from error
"""

BROKEN = {
    "nothing listed": (
        'if one.endswith(end)]', "if False]", r"it lists nothing in .*\n  let `list` give the path"
    ),
    "a path twice": ("for one in files.files if", "for one in files.files * 2 if", "a path twice"),
    "not recognized": (
        'return files.has(f"{path}/mine.pt")', "return False", "lists here but does not recognize"
    ),
    "everything recognized": (
        'return files.has(f"{path}/mine.pt")', "return True", "a path that does not exist"
    ),
    "an SAE out of nothing": (
        'return files.has(f"{path}/mine.pt")', 'return path in ("here", ".")',
        "in an empty directory",
    ),
    "no draft": ("return Draft(cfg=cfg, tensors=weights)", "return cfg", "`load` gives a dict"),
    "its own sample refused": ('"d_sae": d_sae}', '"d_sae": 1}', "the sample is refused: "),
    "another SAE every time": (
        '"b_dec": W[0]}', '"b_dec": torch.rand(d_in)}', "b_dec differs"
    ),
    "its own errors": (
        'files.torch(f"{path}/mine.pt")', 'dict(files.torch(f"{path}/mine.pt"))',
        r"mine.pt of one number: TypeError: .*\n  check the content",
    ),
    "code that is run": (
        'files.torch(f"{path}/mine.pt")',
        'careless(files.path(f"{path}/mine.pt"))',
        r"mine.pt with code in it: code was executed\n  read with `files.torch`",
    ),
}  # fmt: skip


@pytest.fixture
def sample(tmp_path):
    """A repository of the format, with one SAE."""
    root = tmp_path / "sample"
    (root / "here").mkdir(parents=True)
    torch.save({"W": torch.arange(120.0).reshape(20, 6) / 60 - 1}, root / "here" / "mine.pt")
    return root


def test_a_good_one_passes(plugin, sample):
    """A source that says what it has and refuses the rest keeps the contract; the sample stays."""
    plugin("release", GOOD)
    before = (sample / "here" / "mine.pt").read_bytes()
    check_release("mine", sample=sample)
    assert (sample / "here" / "mine.pt").read_bytes() == before


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said(plugin, sample, name):
    """Each way to be wrong is found; the message says what to change."""
    old, new, message = BROKEN[name]
    assert old in GOOD
    plugin("release", GOOD.replace(old, new) + CARELESS)
    with pytest.raises(Nonconformance, match=message):
        check_release("mine", sample=sample)


def test_a_format_of_somebody_else(plugin, tmp_path):
    """An SAE that two formats recognize is nobody's."""
    place = tmp_path / "sample" / "here"
    place.mkdir(parents=True)
    torch.save({"W": torch.arange(120.0).reshape(20, 6) / 60 - 1}, place / "mine.pt")
    (place / "cfg.json").write_text(json.dumps({}))
    (place / "sae_weights.safetensors").write_bytes(b"")
    plugin("release", GOOD)
    with pytest.raises(Nonconformance, match=r"here is also recognized by release\.saelens"):
        check_release("mine", sample=tmp_path / "sample")
