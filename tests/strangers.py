"""Environments into which packages of strangers are installed for real, without a network."""

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIED = ROOT / "tests" / "example_plugin"

WRAPPERS = {
    "pip": "-m pip --disable-pip-version-check",
    "pytest": "-m pytest -p no:cacheprovider",
    "saecore": "-c 'from saecore.cli import main; main()'",
}
"""Commands of an environment; each is a shell line, since nothing but python is installed there."""


class Environment:
    """A virtual environment laid over the present one: what it installs is its own.

    Args:
        directory: where it is made.
        cache: directory for token files, so that several environments share them.
    """

    def __init__(self, directory, cache):
        venv.create(directory, with_pip=False)
        self.python = directory / "bin" / "python"
        (packages,) = (directory / "lib").glob("python*/site-packages")
        below = sysconfig.get_paths()["purelib"]
        (packages / "below.pth").write_text(f"import site; site.addsitedir({below!r})\n")
        for name, line in WRAPPERS.items():
            file = directory / "bin" / name
            file.write_text(f'#!/bin/sh\nexec "{self.python}" {line} "$@"\n')
            file.chmod(0o755)
        self.variables = {
            **os.environ,
            "PATH": f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "SAECORE_CACHE": str(cache),
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this 0 as "no isolation"
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "80",
        }

    def run(self, command, cwd, check=True):
        """Run a shell line; returns the finished process, stdout and stderr in one.

        Args:
            command: the line, or a list of arguments.
            cwd: where.
            check: whether a failure is the test's failure.
        """
        done = subprocess.run(
            command,
            shell=isinstance(command, str),
            cwd=cwd,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if check:
            assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done

    def install(self, source, workspace):
        """Install a package from a copy of its directory, as building writes into it."""
        copy = shutil.copytree(source, workspace / source.name)
        self.run([self.python, "-m", "pip", "install", "--quiet", copy], workspace)
