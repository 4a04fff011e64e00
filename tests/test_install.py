"""The wheel is complete: installed elsewhere, it finds its plugins, model and examples."""

import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel(tmp_path):
    """Built, installed in a fresh environment (over this one's libraries) and used from there:
    plugins are listed, `saecore init` writes the examples, the embedded model is in it, so are the
    markers for type checkers, and it takes no other import names than it declares.
    """
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("saecore-*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", wheel]
    subprocess.run(install, check=True)
    # The libraries of this environment, without its editable saecore (a .pth file is not read).
    libraries = str(Path(pytest.__file__).parent.parent)
    (tmp_path / "here").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "libs")}
    (tmp_path / "libs").mkdir()
    for entry in Path(libraries).iterdir():
        if "saecore" not in entry.name:
            (tmp_path / "libs" / entry.name).symlink_to(entry)

    def saecore(*args):
        command = [str(tmp_path / "env" / "bin" / "saecore"), *args]
        return subprocess.run(
            command,
            cwd=tmp_path / "here",
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert "architecture  topk" in saecore("plugins")
    saecore("init")
    assert (tmp_path / "here" / "experiments" / "topk.toml").read_text() == (
        ROOT / "experiments" / "topk.toml"
    ).read_text()
    assert 'hook = "blocks.2.hook_resid_post"' in saecore("check", "experiments/topk.toml")
    packages = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    assert (packages / "saecore_plugins" / "tiny_lm" / "model.safetensors").stat().st_size > 10**6
    assert not (packages / "tests").exists()

    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
        (metadata,) = (name for name in files if name.endswith(".dist-info/METADATA"))
        declared = Parser().parsestr(archive.read(metadata).decode()).get_all("Import-Name")
    names = {file.partition("/")[0] for file in files}
    assert declared == ["saecore", "saecore_plugins"]
    assert {name for name in names if not name.endswith(".dist-info")} == set(declared)
    assert all(f"{name}/py.typed" in files for name in declared)
    module = [python, "-m", "saecore", "--version"]
    assert (
        "saecore"
        in subprocess.run(
            module, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout
    )
