"""The Makefile installs what each target needs, once, and says how to go on."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN, TEST, LINT = ".", ".[test]", ".[lint]"
FAKE = """\
#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$*" in *"pip install"*) exit "${{PIP_FAILS:-0}}";; "run "*) exit "${{RUN_FAILS:-0}}";; esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose virtual environment only logs what is called."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "log").touch()
    programs = tmp_path / "env" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "saecore", "ruff", "lint-imports", "mypy"):
        (programs / name).write_text(FAKE.format(log=tmp_path / "log"))
        (programs / name).chmod(0o755)
    python = tmp_path / "python"  # computes hashes, but creates no environment
    python.write_text(f'#!/bin/sh\n[ "$2" = venv ] || exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path


def _environment():
    """The environment without what an outer make hands on, as in `make test`."""
    return {key: value for key, value in os.environ.items() if "MAKE" not in key}


def make(checkout, *targets, **variables):
    """Run make; returns the finished process and what pip was asked to install."""
    (checkout / "log").write_text("")
    done = subprocess.run(
        ["make", *targets, f"PYTHON={checkout / 'python'}", "VENV=env"],
        cwd=checkout,
        env={**_environment(), **variables},
        capture_output=True,
        text=True,
    )
    calls = (checkout / "log").read_text().splitlines()
    return done, [line.split()[-1] for line in calls if "pip install" in line]


@pytest.mark.parametrize(
    ("targets", "installed"),
    [
        (["run", "run"], [RUN]),
        (["run", "test", "test", "run"], [RUN, TEST]),
        (["test", "run", "docs"], [TEST]),
        (["lint", "test", "lint", "run", "test"], [LINT, TEST]),
        (["docs", "run"], [RUN]),
    ],
)
def test_each_target_installs_what_it_lacks(checkout, targets, installed):
    """Whatever the order, nothing is installed twice and nothing is missing."""
    found = []
    for target in targets:
        done, requirements = make(checkout, target)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        found += requirements
    assert found == installed


def test_targets_of_one_call(checkout):
    """`make -j lint test` installs both sets, one after the other."""
    done, requirements = make(checkout, "-j", "lint", "test", "run")
    assert done.returncode == 0, done.stderr
    assert requirements == [LINT, TEST]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_other_requirements(checkout, name):
    """When the file has changed, every set is installed again."""
    for target in ("lint", "test"):
        make(checkout, target)
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    assert [make(checkout, target)[1] for target in ("run", "test", "lint")] == [
        [RUN],
        [TEST],
        [LINT],
    ]
    assert [make(checkout, target)[1] for target in ("run", "test", "lint")] == [[], [], []]


def test_a_failed_installation(checkout):
    """It stops make, and the next call installs again."""
    done, _ = make(checkout, "run", PIP_FAILS="1")
    assert done.returncode != 0
    assert "saecore" not in (checkout / "log").read_text()
    assert make(checkout, "run")[1] == [RUN]


def test_without_python(checkout):
    """Where there is no python3, make stops there; nothing counts as installed."""
    (checkout / "python").unlink()
    done, _ = make(checkout, "run")
    assert done.returncode != 0
    assert "saecore" not in (checkout / "log").read_text()


def test_installing_is_announced(checkout):
    """One line says what is installed and how large it is, and only when it is."""
    for target, what in (("run", "2.2 GB"), ("test", "Triton (1.1 GB)"), ("lint", "(0.1 GB)")):
        done, _ = make(checkout, target)
        (line,) = [one for one in done.stdout.splitlines() if one.startswith("installing")]
        assert what in line
        done, _ = make(checkout, target)
        assert "installing" not in done.stdout


def test_a_run_says_how_to_go_on(checkout):
    """The last line of `make run` puts the commands that a run prints on the PATH; a run that is
    stopped prints a command too.
    """
    done, _ = make(checkout, "run")
    assert done.stdout.splitlines()[-1].endswith(": source env/bin/activate")
    done, _ = make(checkout, "run", RUN_FAILS="130")
    assert done.returncode != 0
    assert "source env/bin/activate" in done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_pages_say_how_to_go_on(page):
    """Where a page says `make run`, the environment is activated before its next command."""
    text = (ROOT / page).read_text(encoding="utf-8")
    after = text[text.index("make run") :]
    activation = after.index("source .venv/bin/activate")
    assert "$ saecore" not in after[:activation]
    assert "\nsaecore" not in after[:activation]


def test_a_run_needs_no_development_tools():
    """Triton and the tools are extras; MLflow and TransformerLens come with every installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = " ".join(project["dependencies"])
    for tool in ("triton", "pytest", "hypothesis", "mypy", "ruff", "import-linter", "hatchling"):
        assert tool not in needed
    assert "mlflow" in needed
    assert "transformer-lens" in needed
    assert any("triton" in one for one in project["optional-dependencies"]["test"])
