"""`saecore neuronpedia`: ids and URLs, what its API answers (a server here), files of an upload."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from click.testing import CliRunner

from saecore import SAE
from saecore.cli import cli
from saecore.errors import ReleaseError
from saecore.releases import catalogue
from saecore_plugins.commands.neuronpedia.features import parse, read_feature
from saecore_plugins.commands.neuronpedia.sources import Source, quick_list, source_of
from tests.releases.sample import saved
from tests.releases.test_measure import HOOK, made, text  # noqa: F401 (a fixture)

CPU = torch.device("cpu")
JB = Source("gpt2-small", "8-res-jb")
ANSWER = {
    "modelId": "gpt2-small", "layer": "8-res-jb", "index": "1234",
    "maxActApprox": 22.5, "frac_nonzero": 0.00886, "unknown": [1, {"more": None}],
    "pos_str": [" diameter", " radius"], "pos_values": [1.25, 1.0],
    "neg_str": [" Peb"], "neg_values": [-1.0],
    "explanations": [
        {"description": "measurements\x1b[2J in\nmetres", "explanationModelName": "gpt-4o-mini"},
        {"description": ""},
    ],
    "activations": [
        {"tokens": ["The", " radius", " is", " 10"], "values": [0, 3, 0, 1.5], "maxValue": 3},
        {"tokens": ["cut"], "values": []},
    ],
}  # fmt: skip
"""An answer of the API, with what an export of it had, and values that no one expects."""


class Handler(BaseHTTPRequestHandler):
    """Answers one feature."""

    def log_message(self, *args):
        """Say nothing."""

    def do_GET(self):
        """One feature; null, nonsense, 404 and 429 under other indices."""
        index = self.path.rpartition("/")[2]
        special = {"1": (200, b"null"), "2": (200, b"<html>"), "3": (429, b"{}"), "4": (502, b"")}
        status, data = special.get(index, (404, b""))
        if self.path == "/api/feature/gpt2-small/8-res-jb/1234":
            status, data = 200, json.dumps(ANSWER).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def base():
    """Where a server answers as Neuronpedia does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(*words):
    """What the command prints; errors are raised."""
    result = CliRunner().invoke(cli, ["neuronpedia", *map(str, words)], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_urls():
    """Pages are where the reference says, `neuronpedia.org/{model}/{layer}-{set}/{feature}`; embeds
    and quick lists have the queries that the site reads.
    """
    assert JB.url(1234) == "https://neuronpedia.org/gpt2-small/8-res-jb/1234"
    assert (JB.layer, JB.set) == (8, "res-jb")
    query = parse_qs(urlsplit(JB.embed_url(5, plots=False)).query)
    assert query == {"embed": ["true"], "embedexplanation": ["true"], "embedplots": ["false"],
                     "embedtest": ["true"]}  # fmt: skip
    listed = quick_list([(JB, 1), (Source("gemma-2-2b", "0-gemmascope-res-16k"), 2)], "Test List")
    assert listed.startswith("https://neuronpedia.org/quick-list/?name=Test%20List&features=")
    assert json.loads(parse_qs(urlsplit(listed).query)["features"][0]) == [
        {"modelId": "gpt2-small", "layer": "8-res-jb", "index": "1"},
        {"modelId": "gemma-2-2b", "layer": "0-gemmascope-res-16k", "index": "2"},
    ]
    assert JB.url(1, "http://localhost:3000/") == "http://localhost:3000/gpt2-small/8-res-jb/1"


def test_refused():
    """Names, indices and places that cannot be are refused."""
    for name in ("gpt2-small", "a/b/c", "gpt2-small/8-res-jb/1", "a b/8-x", "../8-x"):
        with pytest.raises(ReleaseError, match="expected MODEL/LAYER-SET"):
            Source.parse(name)
    for index in (-1, True, "1"):
        with pytest.raises(ReleaseError, match="expected an index"):
            JB.url(index)
    with pytest.raises(ReleaseError, match="not a URL of Neuronpedia"):
        JB.url(1, "file:///etc")
    with pytest.raises(ReleaseError, match="expected at least one"):
        quick_list([])


def test_every_id_of_the_catalogue():
    """All 2441 ids that the catalogue knows are sources."""
    known = [one.facts.neuronpedia for one in catalogue.everything() if one.facts.neuronpedia]
    assert len(known) == 2441
    assert all(str(Source.parse(one)) == one for one in known)


def test_sources_by_name(tmp_path):
    """A source is given as such, by a catalogue's name without any download, by a directory, or by
    an SAE; where none is recorded, that is said.
    """
    url = "https://neuronpedia.org/gpt2-small/8-res-jb/7\n"
    assert run("url", "gpt2-small/8-res-jb", 7) == url
    assert run("url", "gpt2-small-res-jb:blocks.8.hook_resid_pre", 7) == url
    saved(tmp_path / "one", metadata={"neuronpedia_id": "gpt2-small/8-res-jb"})
    assert run("url", tmp_path / "one", 7) == url
    assert source_of(SAE.load_from_disk(tmp_path / "one")) == JB
    saved(tmp_path / "two")
    with pytest.raises(ReleaseError, match=r"two: its Neuronpedia source is not recorded.*give it"):
        run("url", tmp_path / "two", 7)
    with pytest.raises(ReleaseError, match="this SAE: its Neuronpedia source is not recorded"):
        source_of(SAE.load_from_disk(tmp_path / "two"))


def test_reading_a_feature(base):
    """The answer becomes a `Feature`; what is not as expected is left out, and stays in raw."""
    found = read_feature(JB, 1234, base)
    assert [one.model for one in found.explanations] == ["gpt-4o-mini"]
    assert (found.density, found.maximum) == (0.00886, 22.5)
    assert found.promoted == ((" diameter", 1.25), (" radius", 1.0))
    assert found.suppressed == ((" Peb", -1.0),)
    (example,) = found.examples
    assert example.tokens[1] == " radius"
    assert example.values == (0.0, 3.0, 0.0, 1.5)
    assert found.raw == ANSWER


def test_strange_answers():
    """Values of other types are left out; nothing of an answer can raise."""
    strange = {"explanations": "x", "activations": [3], "pos_str": 1, "frac_nonzero": "0.5"}
    strange |= {"maxActApprox": {"a": 1}, "neg_str": ["a", "b"], "neg_values": [None, 2.0]}
    found = parse(strange, JB, 0)
    assert (found.explanations, found.examples, found.promoted) == ((), (), ())
    assert (found.density, found.maximum, found.suppressed) == (None, None, (("b", 2.0),))


@pytest.mark.parametrize(
    ("index", "match"),
    [(1, "no such feature"), (9, "no such feature"), (2, "not JSON"),
     (3, "returned 429; wait, or use the exports"), (4, "returned 502; try again later")],
)  # fmt: skip
def test_no_feature(base, index, match):
    """What is not there, or no answer, is one line."""
    with pytest.raises(ReleaseError, match=match) as caught:
        read_feature(JB, index, base)
    assert "\n" not in str(caught.value)


def test_unreachable(base):
    """No server: one line with the address."""
    with pytest.raises(ReleaseError, match=r"127\.0\.0\.1:1/.*cannot be reached"):
        read_feature(JB, 1, "http://127.0.0.1:1")


def test_feature_command(base):
    """People read explanations, density and text around the strongest token; nothing in them moves
    the cursor. --json prints the answer.
    """
    said = run("feature", "gpt2-small/8-res-jb", 1234, "--base-url", base)
    assert "says       measurements[2J in metres (gpt-4o-mini)" in said
    assert "active     on 0.886% of the tokens" in said
    assert "promotes   ' diameter', ' radius'" in said
    assert "example    The[ radius] is 10" in said
    assert "\x1b" not in said
    words = ("feature", "gpt2-small/8-res-jb", 1234, "--base-url", base, "--json")
    assert json.loads(run(*words)) == ANSWER


def test_help_names_everything():
    """`saecore --help` lists the command, its own help every subcommand."""
    listed = CliRunner().invoke(cli, ["--help"]).output
    assert re.search(r"neuronpedia\s+\(from saecore\)", listed)
    assert all(name in run("--help") for name in ("url", "list", "feature", "export"))
