"""The dashboard in a real browser: what it shows, and that nothing of a token is HTML."""

import json
import re

import pytest

import saecore
from saecore.analysis.dashboard import write_dashboard
from tests.analysis.dashboard.browser import AVAILABLE, browser
from tests.analysis.small import Words, backend, contexts, small_sae

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs chromium and chromedriver")
TITLE = "</title><img src=x onerror=alert(2)>"
LIST = "return [...document.querySelectorAll('#features a')].map(a => Number(a.dataset.id))"
HEADING = "return document.querySelector('main h2').textContent"


@pytest.fixture(scope="module")
def looked():
    """What was seen of all features of a small SAE."""
    return saecore.features(small_sae(), backend(), contexts(), top=5, bands=2, samples=2)


@pytest.fixture(scope="module")
def file(tmp_path_factory, looked):
    """The page."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    write_dashboard(file, looked, small_sae(), backend(), TITLE)
    return file


@pytest.fixture(scope="module")
def window():
    """One browser for all tests."""
    with browser() as found:
        yield found


@pytest.fixture
def page(window, file):
    """The page, freshly opened, of a wide window."""
    window.post("url", {"url": "about:blank"})
    window.look(1280)
    window.requests(), window.complaints()
    window.open(file)
    return window


def live(looked):
    """Features that fire."""
    return [int(one) for one in looked.latents[looked.density > 0]]


def test_it_asks_for_nothing(page, file, looked):
    """No request but for the file itself, no error, nothing refused, on every feature's page."""
    for latent in looked.latents.tolist():
        page.run(f"location.hash = '{latent}'")
    assert page.requests() == [file.resolve().as_uri()]
    assert page.complaints() == []
    page.run("new Image().src = 'http://127.0.0.1:9/x'")
    assert "Content Security Policy" in page.complaints()[0]


def test_tokens_and_title_are_text(page, looked):
    """Markup in a token or title is shown as it is; it makes no element."""
    wanted = Words.WORDS[0]
    latent = next(
        int(one)
        for one, kept, tokens in zip(
            looked.latents, looked.top.contexts[:, 0], looked.top.tokens[:, 0], strict=True
        )
        if kept >= 0 and (tokens == 0).any()
    )
    page.run(f"location.hash = '{latent}'")
    text = page.run("return document.body.textContent")
    assert wanted in page.run("return document.querySelector('main').textContent")
    assert TITLE in text
    assert page.run("return document.title") == TITLE
    assert page.run("return document.querySelectorAll('img, main script').length") == 0
    assert page.complaints() == []


def test_a_features_page(page, looked):
    """Density, peaks, contexts, shading, logits and neighbors are those that were computed."""
    n = looked.latents.tolist().index(live(looked)[3])
    latent = int(looked.latents[n])
    page.run(f"location.hash = '{latent}'")
    assert page.run(HEADING) == f"Feature {latent}"
    facts = page.run("return document.querySelector('.facts').textContent")
    assert f"{100 * looked.density[n]:.3g} %" in facts
    sections = page.run(
        "return [...document.querySelectorAll('main section')].map(one => "
        "[one.querySelector('h3').textContent, one.querySelectorAll('tr, details').length])"
    )
    filled = int((looked.top.contexts[n] >= 0).sum())
    drawn = int((looked.sampled.contexts[n] >= 0).sum())
    assert dict(sections) == {
        "Activations": 0,
        "Raises the logits of": 10,
        "Lowers the logits of": 10,
        "Top activations": filled,
        "A sample of the contexts it fires in": drawn,
        "Nearest by decoder cosine": 8,
        "Fires together with (Jaccard)": min(8, int((looked.overlap()[n] > 0).sum())),
    }
    peaks = page.run(
        "return [...document.querySelectorAll('.peak')].map(x => Number(x.textContent))"
    )
    wanted = [*looked.top.peaks[n, :filled], *looked.sampled.peaks[n, :drawn]]
    assert peaks == pytest.approx(wanted, rel=5e-3)
    bars = page.run("return document.querySelectorAll('rect.bar').length")
    assert bars == (looked.counts[n] > 0).sum()
    page.run("document.querySelector('main summary').click()")
    whole = "document.querySelectorAll('main .whole .token')"
    for _ in range(50):  # the event comes after the click
        if page.run(f"return {whole}.length"):
            break
    values = page.run(f"return [...{whole}].map(one => Number(one.dataset.value))")
    assert values == pytest.approx(looked.top.values[n, 0].tolist(), rel=5e-3)
    hot = page.run(f"return [...{whole}].map(one => one.classList.contains('hot'))")
    assert hot == (looked.top.values[n, 0] > 0).tolist()


def heading(page, wanted):
    """Whether the page comes to show a heading: its events come after the keys."""
    return any(page.run(HEADING) == wanted for _ in range(50))


def test_keys(page, looked):
    """j, k and the arrows go through the list, / searches, Enter takes the first, Escape leaves."""
    first, second = looked.latents[:2].tolist()
    assert heading(page, f"Feature {first}")
    page.press("j")
    assert heading(page, f"Feature {second}")
    page.press("ArrowRight", "k", "ArrowLeft", "ArrowLeft")
    assert heading(page, f"Feature {first}")
    page.press("/", "1", "7", "Enter")
    assert page.run(LIST)[0] == 17 or 17 in page.run(LIST)
    assert heading(page, f"Feature {page.run(LIST)[0]}")
    page.press("/", "j", "Escape")
    assert page.run("return document.activeElement.id") != "search"
    assert page.run("return document.querySelector('#search').value") == "17j"


def search(page, text):
    """The features listed for a search."""
    page.run(
        f"const s = document.querySelector('#search'); s.value = {json.dumps(text)};"
        "s.dispatchEvent(new Event('input'))"
    )
    return page.run(LIST)


def test_search(page, looked, file):
    """By number, token, logit and density, and by several at once; sorted as asked."""
    data = json.loads(re.search(r'id="data">(.*?)</script>', file.read_text())[1])
    words = [one.lower() for one in data["words"]]

    def logits(text):
        return [
            one["id"]
            for one in data["features"]
            if any(text in words[token] for token, _ in one["high"] + one["low"])
        ]

    assert search(page, "") == looked.latents.tolist()
    assert 17 in search(page, "17")
    assert search(page, "logit:W42") == logits("w42")
    dense = looked.latents[looked.density > 0.05].tolist()
    assert search(page, "density>0.05") == search(page, "density>5%") == dense
    found = search(page, "token:&AMP;")
    assert found
    for latent in found:
        n = looked.latents.tolist().index(latent)
        values, tokens = looked.top.values[n], looked.top.tokens[n]
        assert (values[tokens == 3] >= values.max() / 2 - 1e-6).any()
    assert search(page, "token:&amp; density>0.05") == [one for one in found if one in dense]
    assert search(page, "nothing-at-all") == []
    search(page, "")
    page.run(
        "const s = document.querySelector('#sort'); s.value = 'density';"
        "s.dispatchEvent(new Event('change'))"
    )
    order = sorted(looked.latents, key=lambda one: (-looked.density[one], one))
    assert page.run(LIST) == [int(one) for one in order]


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(page, looked, dark):
    """Nothing is wider than the screen; the list opens and closes; both schemes differ."""
    page.look(390, 844, dark, phone=True)
    page.run(f"location.hash = '{live(looked)[3]}'")
    assert page.run("return document.documentElement.scrollWidth") <= 390
    shown = "return getComputedStyle(document.querySelector('aside')).display"
    assert page.run(shown) == "none"
    page.run("document.querySelector('#list').click()")
    assert page.run(shown) == "block"
    page.run("document.querySelector('#features a').click()")
    for _ in range(50):
        if page.run(shown) == "none":
            break
    assert page.run(shown) == "none"
    color = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (color == "rgb(255, 255, 255)") != dark


def test_a_feature_that_never_fires(page, looked):
    """It says so, and still has its neighbors."""
    silent = next(int(one) for one in looked.latents if one not in live(looked))
    page.run(f"location.hash = '{silent}'")
    text = page.run("return document.querySelector('main').textContent")
    assert "never fired" in text
    assert "Nearest by decoder cosine" in text
