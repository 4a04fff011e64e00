"""Options and fixtures of all tests."""

from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


def pytest_addoption(parser):
    """Let the oracle tests run over other recordings, and all tests on one backend of ops."""
    parser.addoption(
        "--oracle",
        type=Path,
        default=DATA / "oracle",
        help="directory of recordings, laid out like tests/data/oracle",
    )
    parser.addoption("--ops", help="force a backend of saecore.ops in every test: plain, compiled")


@pytest.fixture(autouse=True)
def _forced_backend(request):
    """What `--ops` asks for."""
    name = request.config.getoption("--ops")
    if name is None:
        yield
        return
    from saecore import ops

    with ops.forced(name):
        yield


@pytest.fixture(scope="session")
def oracle(request):
    """The directory of recordings."""
    return request.config.getoption("--oracle")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local hub that `huggingface_hub` uses, with an empty cache; see tests/hub.py."""
    from tests.hub import LocalHub, connect

    server = LocalHub()
    connect(server, tmp_path, monkeypatch)
    yield server
    server.close()
