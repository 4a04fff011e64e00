"""Files from elsewhere: nothing is executed, nothing large is made of a small file."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from numpy.lib import format as npy
from safetensors.torch import save_file

from saecore.errors import ReleaseError
from saecore.storage import safe_load
from saecore.storage.repository import Directory


def array(shape, dtype="<f4", data=b""):
    """An .npy file that says what it likes about its data."""
    file = io.BytesIO()
    npy.write_array_header_1_0(
        file, {"shape": shape, "fortran_order": False, "descr": dtype}
    )  # fmt: skip
    return file.getvalue() + data


def archive(path, members, compression=zipfile.ZIP_STORED):
    """An .npz file of such members."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_arrays_are_read(tmp_path):
    """Arrays of numpy come back, packed or not."""
    arrays = {"a": numpy.arange(6, dtype="float32").reshape(2, 3), "b": numpy.ones(2)}
    for save in (numpy.savez, numpy.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        found = safe_load.npz(tmp_path / "x.npz", "x")
        assert {name: one.tolist() for name, one in found.items()} == {
            name: one.tolist() for name, one in arrays.items()
        }


@pytest.mark.parametrize(
    "content",
    [
        array((10**12,)),
        array((2**40, 2**40)),
        array((4,), data=bytes(12)),
        array((2,), data=bytes(12)),
        array((2,), "|O", pickle.dumps([1, 2])),
        b"not an array",
        b"",
        npy.magic(3, 0) + struct.pack("<I", 10) + b"{'shape': ",
    ],
    ids=["huge", "overflow", "short", "long", "objects", "text", "empty", "cut"],
)
def test_arrays_that_are_not_what_they_say(tmp_path, content):
    """A header's promise is compared with the data before room is made for it."""
    path = archive(tmp_path / "x.npz", {"W_enc.npy": content})
    with pytest.raises(ReleaseError, match=r"^x: "):
        safe_load.npz(path, "x")


def test_archives_that_grow(tmp_path):
    """An archive that is much larger when unpacked is refused before it is unpacked."""
    path = archive(
        tmp_path / "x.npz",
        {"W_enc.npy": array((2**24,), data=bytes(2**26))},
        zipfile.ZIP_DEFLATED,
    )
    with pytest.raises(ReleaseError, match="uncompressed"):
        safe_load.npz(path, "x")
    with pytest.raises(ReleaseError, match="uncompressed"):
        safe_load.torch_file(path, "x")


class Code:
    """An object whose pickle runs a function when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        """What pickle calls when it reads it."""
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_with_code(tmp_path, legacy):
    """A pickle that would run something is refused, and nothing has run."""
    trace = tmp_path / "ran"
    torch.save(
        {"W_enc": torch.ones(2), "x": Code(trace)},
        tmp_path / "x.pt",
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(ReleaseError) as refused:
        safe_load.torch_file(tmp_path / "x.pt", "x")
    reason = (
        "is a pickle, which can run any code; saecore never runs one."
        if legacy
        else "holds Python objects (getattr) besides tensors, which only code can load; saecore "
        "never runs code of a file."
    )
    assert str(refused.value) == f"x: {reason} {SAVE}"
    assert not trace.exists()


SAVE = "Save its tensors alone where it was made: torch.save(model.state_dict(), …)"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_called_a_pickle(tmp_path, protocol):
    """Also one without code; torch's warning and its advice to load it unsafely do not appear."""
    trace = tmp_path / "ran"
    for value in ({"W_enc": [1.0]}, Code(trace)):
        (tmp_path / "ae.pt").write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(ReleaseError) as refused:
            safe_load.torch_file(tmp_path / "ae.pt", "ae.pt")
        assert str(refused.value) == (
            f"ae.pt: is a pickle, which can run any code; saecore never runs one. {SAVE}"
        )
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00" * 100])
def test_what_torch_did_not_write(tmp_path, content):
    """Other bytes are not a file of torch.save, in one line."""
    (tmp_path / "ae.pt").write_bytes(content)
    with pytest.raises(ReleaseError) as refused:
        safe_load.torch_file(tmp_path / "ae.pt", "ae.pt")
    assert str(refused.value) == "ae.pt: not a file of tensors written by torch.save"


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(2**20, 2**20),
        {"state": [torch.zeros(1).expand(2**40)]},
        torch.eye(4).to_sparse(),
        torch.empty(3, device="meta"),
    ],
    ids=["expanded", "nested", "sparse", "meta"],
)
def test_tensors_without_their_data(tmp_path, value):
    """A tensor must have as much data as its shape says."""
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(ReleaseError, match=r"^x: "):
        safe_load.torch_file(tmp_path / "x.pt", "x")


def test_deep_nesting(tmp_path):
    """Containers in containers without end are no file of weights."""
    value = torch.zeros(1)
    for _ in range(200):
        value = [value]
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(ReleaseError, match="deep"):
        safe_load.torch_file(tmp_path / "x.pt", "x")


def test_names_of_tensors(tmp_path):
    """The header alone says what is in a safetensors file; what is none is refused."""
    save_file({"W_E": torch.ones(2, 3), "b": torch.ones(1)}, tmp_path / "x.safetensors")
    files = Directory(tmp_path)
    assert files.tensor_names("x.safetensors") == {"W_E", "b"}
    assert files.tensor_names("/x.safetensors") == {"W_E", "b"}
    whole = (tmp_path / "x.safetensors").read_bytes()
    for content in (whole[:-1], whole[:20], b"", struct.pack("<Q", 2**60) + b"{}"):
        (tmp_path / "y.safetensors").write_bytes(content)
        with pytest.raises(ReleaseError, match=r"y\.safetensors"):
            files.tensor_names("y.safetensors")
        with pytest.raises(ReleaseError, match=r"y\.safetensors"):
            files.safetensors("y.safetensors")
