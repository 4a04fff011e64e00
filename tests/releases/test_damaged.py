"""Damaged repositories of every format: a ReleaseError or the right SAE, and nothing else."""

import shutil

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from saecore.errors import ReleaseError
from saecore.releases.load import load
from tests.conftest import DATA
from tests.releases.cases import cases

pytestmark = pytest.mark.filterwarnings("ignore")  # what the readers say of strange files

CASES = cases(DATA / "oracle")

WEIGHTS = (".safetensors", ".npz", ".pt", ".pth")

KINDS = {(one.plugin, one.record["architecture"]): one for one in reversed(CASES)}
"""One of each format and architecture."""


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


@pytest.mark.parametrize("case", KINDS.values(), ids=lambda one: one.name)
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
