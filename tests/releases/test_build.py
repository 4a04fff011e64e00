"""From tensors of files to an SAE: no needless copies, no memory shared by chance."""

import pytest
import torch
from safetensors.torch import load_file

from saecore import SAE
from saecore.errors import ReleaseError
from saecore.releases.build import finite, sae_from_files
from tests.releases.sample import saved

CFG = {
    "architecture": "standard", "d_in": 3, "d_sae": 4, "dtype": "float32", "metadata": {},
    "apply_b_dec_to_input": False,
}  # fmt: skip


def tensors(**others):
    """Tensors of a small SAE."""
    made = {"W_enc": torch.randn(3, 4), "W_dec": torch.randn(4, 3)}
    return {**made, "b_enc": torch.zeros(4), "b_dec": torch.zeros(3), **others}


def build(given, **cfg):
    """The SAE of `CFG` with these tensors."""
    return sae_from_files({**CFG, **cfg}, given, "cfg", "file", torch.device("cpu"))


def test_nothing_is_left_without_memory():
    """Parameters are real, contiguous, trainable, and those of the tensors."""
    given = tensors()
    sae = build(given)
    for parameter in sae.parameters():
        assert parameter.device.type == "cpu"
        assert parameter.is_contiguous()
        assert parameter.requires_grad
    assert torch.equal(sae.W_enc, given["W_enc"])
    assert sae.W_dec.data_ptr() == given["W_dec"].data_ptr()
    sae(torch.randn(2, 3)).sum().backward()
    assert sae.encoder.grad is not None


def test_tensors_that_share_memory_are_parted():
    """A tied decoder or a scalar that was expanded may be folded without changing another."""
    weight = torch.randn(4, 3)
    sae = build(tensors(W_enc=weight.t(), W_dec=weight, b_enc=torch.zeros(1).expand(4)))
    before = sae.encoder.clone()
    with torch.no_grad():
        sae.W_dec.mul_(2)
        sae.b_enc[0] = 1
    assert torch.equal(sae.encoder, before)
    assert sae.b_enc.tolist() == [1, 0, 0, 0]


def test_changes_stay_in_memory(tmp_path):
    """Weights that are changed in place do not change the file that they were mapped from, and an
    SAE can be saved over the one that it was loaded from.
    """
    saved(tmp_path)
    file = tmp_path / "sae_weights.safetensors"
    sae, before = SAE.load_from_disk(tmp_path), file.read_bytes()
    with torch.no_grad():
        sae.W_dec.mul_(3)
        sae.b_dec.add_(1)
    assert file.read_bytes() == before
    sae.save_model(tmp_path)
    assert torch.equal(load_file(file)["W_dec"], sae.W_dec)
    assert torch.equal(SAE.load_from_disk(tmp_path).W_dec, sae.W_dec)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_values_that_are_not_finite(dtype):
    """NaN and infinities are found wherever they are, also where they cancel; large finite values
    whose sum is not finite pass.
    """
    good = torch.full((7, 5), torch.finfo(dtype).max, dtype=dtype)
    for tensor in (good, good.t(), good[:, :3], torch.zeros(0, dtype=dtype)):
        assert finite(tensor)
    for place, values in (((0, 0), ("nan",)), ((6, 4), ("inf",)), ((3, slice(2)), ("inf", "-inf"))):
        bad = torch.zeros(7, 5, dtype=dtype)
        bad[place] = torch.tensor([float(one) for one in values], dtype=dtype).squeeze()
        assert not finite(bad)
        assert not finite(bad.t())


def test_refused():
    """A value that is not finite is refused with the tensor's name."""
    given = tensors()
    given["b_dec"][1] = float("inf")
    with pytest.raises(ReleaseError, match="file: b_dec has values that are not finite"):
        build(given)
