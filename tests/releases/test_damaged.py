"""Damaged repositories of every format: a ReleaseError or the right SAE, and nothing else."""

import json
import random
import shutil

import numpy
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from saecore.errors import ReleaseError
from saecore.releases.load import load
from tests.conftest import DATA
from tests.releases.cases import cases

CASES = cases(DATA / "oracle")

pytestmark = pytest.mark.filterwarnings("ignore")  # what the readers say of strange files

WEIGHTS = (".safetensors", ".npz", ".pt", ".pth")
VALUES = (None, "x", -1, 0, 10**15, 1e300, float("nan"), [], [1], {}, True, "__drop__")
"""What is put in the place of a setting."""


FIRST = list({one.plugin: one for one in reversed(CASES)}.values())
"""One of each format."""

every = pytest.mark.parametrize("case", CASES, ids=lambda one: one.name)
one_of_each = pytest.mark.parametrize("case", FIRST, ids=lambda one: one.name)


def reconstruction(case, root=None):
    """What the SAE makes of the recorded activations; None where it is refused, in one line."""
    try:
        loaded = load(
            case.files(root), case.path, facts=case.facts, source=case.plugin, dtype="float32"
        )
    except ReleaseError as error:
        if "\n" in str(error):
            raise
        return None
    with torch.no_grad():
        return loaded.sae(case.tensors()["x"])


def same(found, right):
    """Whether it was refused, or is what it was."""
    assert right is not None
    return found is None or torch.allclose(found, right, rtol=1e-3, atol=1e-4)


def copied(case, tmp_path):
    """A copy of a repository that may be changed."""
    root = tmp_path / "repo"
    shutil.copytree(case.root / "repo", root)
    return root


def read(file):
    """The tensors of a file, with what is beside them."""
    if file.suffix == ".safetensors":
        return load_file(file)
    if file.suffix == ".npz":
        return {name: torch.from_numpy(one) for name, one in numpy.load(file).items()}
    return torch.load(file, weights_only=True)


def write(file, tensors):
    """The same back."""
    if file.suffix == ".safetensors":
        save_file({name: one.contiguous() for name, one in tensors.items()}, file)
    elif file.suffix == ".npz":
        numpy.savez(file, **{name: one.numpy() for name, one in tensors.items()})
    else:
        torch.save(tensors, file)


def damages(tensors):
    """Copies of a file's content, each with one tensor that is not what it was."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        rest = {key: one for key, one in tensors.items() if key != name}
        yield f"{name} is missing", rest
        yield f"{name} has another name", {**rest, f"{name}_": tensor}
        yield f"{name} is of integers", {**rest, name: tensor.long()}
        yield f"{name} has a dimension more", {**rest, name: tensor[None]}
        if tensor.dim():
            yield f"{name} is cut", {**rest, name: tensor[1:].clone()}
        if tensor.dim() == 2 and tensor.shape[0] != tensor.shape[1]:
            yield f"{name} is transposed", {**rest, name: tensor.t().contiguous()}
        if tensor.is_floating_point():
            bad = tensor.clone().reshape(-1)
            bad[-1] = float("nan")
            yield f"{name} is not finite", {**rest, name: bad.reshape(tensor.shape)}


@every
def test_tensors(case, tmp_path):
    """A tensor that is missing, renamed, cut, turned or not finite is refused.

    Unless it is one that the SAE does not need: then the SAE is what it was.
    """
    root, right = copied(case, tmp_path), reconstruction(case)
    for file in sorted(one for one in root.rglob("*") if one.suffix in WEIGHTS):
        before = file.read_bytes()
        for damage, tensors in damages(read(file)):
            write(file, tensors)
            assert same(reconstruction(case, root), right), damage
        file.write_bytes(before)


def changed(table, values):
    """A table with one setting, at any depth, that is something else."""
    table = json.loads(json.dumps(table))
    places = [(table, key) for key in table]
    for inner in list(table.values()):
        places += [(inner, key) for key in inner] if isinstance(inner, dict) else []
    inside, key = values.choice(places)
    inside[key] = values.choice(VALUES)
    if inside[key] == "__drop__":
        del inside[key]
    return table


TEXTS = ("", "{", "[]", "1", "\0", "!!python/object/apply:os.mkdir ['ran']")
"""What is no table of settings."""


@one_of_each
def test_settings(case, tmp_path, monkeypatch):
    """Whatever stands in a configuration, it is read or refused; what is none is refused."""
    monkeypatch.chdir(tmp_path)
    root, right = copied(case, tmp_path), reconstruction(case)
    values = random.Random(case.name)
    for file in sorted(one for one in root.rglob("*") if one.suffix in (".json", ".yaml")):
        text = file.read_text()
        for _ in range(20):
            new = changed(yaml.safe_load(text), values)
            file.write_text(json.dumps(new) if file.suffix == ".json" else yaml.safe_dump(new))
            found = reconstruction(case, root)
            assert found is None or found.shape == right.shape
        for content in TEXTS:
            file.write_text(content)
            assert same(reconstruction(case, root), right)
        file.write_text(text)
    assert not (tmp_path / "ran").exists()


@one_of_each
def test_bytes(case, tmp_path):
    """Files that were cut are refused; others' bytes are numbers, or refused."""
    root, right = copied(case, tmp_path), reconstruction(case)
    values = random.Random(case.name)
    for file in sorted(one for one in root.rglob("*") if one.suffix in WEIGHTS):
        whole = file.read_bytes()
        for end in (0, 7, values.randrange(len(whole)), len(whole) - 1):
            file.write_bytes(whole[:end])
            assert same(reconstruction(case, root), right), end
        for _ in range(6):
            content = bytearray(whole)
            for _ in range(3):
                content[values.randrange(min(len(whole), 400))] = values.randrange(256)
            file.write_bytes(content)
            found = reconstruction(case, root)
            assert found is None or found.shape == right.shape
        file.write_bytes(whole)
