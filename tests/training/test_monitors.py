"""Monitors in a run: once each, on stderr, and never in the way."""

import tomllib

import attrs
import torch

from saecore.config import structure_experiment
from saecore.plugins.component import Choice, Component
from saecore.plugins.host import current_host
from saecore.plugins.structure import structure_choice
from saecore.training.monitors import Monitors
from tests.helpers import MINIMAL, ListSource
from tests.training.test_trainer import trainer


@attrs.frozen
class Nothing:
    """No settings."""


def choice(name, monitor):
    """A stranger's monitor."""
    return Choice(
        Component(
            kind="monitor", name=name, config=Nothing, build=lambda config: monitor, summary=""
        ),
        Nothing(),
    )


def stepped(x):
    """A trainer after one step on `x`."""
    one = trainer("topk", source=ListSource([x]))
    one.step()
    return one


def test_each_speaks_once(capsys):
    """A warning goes to stderr with the monitor's name and the step; then that monitor is not
    called any more, while the others are.
    """
    calls = []

    def loud(view):
        calls.append("loud")
        return f"too loud: {view.metrics['a']}"

    def quiet(view):
        calls.append("quiet")

    monitors, one = Monitors([choice("loud", loud), choice("quiet", quiet)]), stepped(rows())
    for _ in range(3):
        monitors(one, {"a": 7.0})
    assert calls == ["loud", "quiet", "quiet", "quiet"]
    assert capsys.readouterr().err == "warning: monitor loud: step 1: too loud: 7.0\n"


def rows():
    """A batch."""
    return torch.randn(32, 8, generator=torch.Generator().manual_seed(0))


def test_a_monitor_that_fails(capsys):
    """It is reported in one line and left out; the run goes on."""

    def broken(view):
        raise KeyError("figure")

    monitors = Monitors([choice("broken", broken)])
    monitors(stepped(rows()), {})
    monitors(stepped(rows()), {})
    assert capsys.readouterr().err == (
        "warning: monitor broken: step 1: failed and is disabled: KeyError: 'figure'\n"
    )


def test_what_they_see():
    """The last batch as the SAE saw it, with its reconstruction before the step; no gradients."""
    seen, x = [], rows()
    one = trainer("topk", source=ListSource([x]))
    with torch.no_grad():
        x_hat = one.sae(x)
    one.step()
    Monitors([choice("look", lambda view: seen.append(view))])(one, {"b": 1.0})
    (view,) = seen
    assert torch.equal(view.batch.inputs, x)
    assert not view.reconstruction.requires_grad
    torch.testing.assert_close(view.token_losses, (x_hat - x).square().sum(1))
    assert abs(view.mean_norm - float(x.norm(dim=1).mean()) / 8**0.5) < 1e-6


def test_before_the_first_step():
    """There is nothing to see yet."""
    Monitors([choice("look", lambda view: 1 / 0)])(trainer("topk"), {})


def test_all_are_on_by_default():
    """An experiment that says nothing has every built-in monitor; an empty list has none."""
    tables = tomllib.loads(MINIMAL)
    names = [one.name for one in structure_experiment(tables).monitor]
    assert names == list(current_host().names("monitor"))
    assert structure_experiment({**tables, "monitor": []}).monitor == ()
    table = [{"type": "norm_drift", "change": 0.5}]
    (only,) = structure_experiment({**tables, "monitor": table}).monitor
    assert only.config.change == 0.5


def test_a_healthy_start_is_quiet(capsys):
    """The built-in monitors say nothing of a few ordinary steps."""
    source = ListSource([rows() for _ in range(3)])
    one = trainer("topk", source=source)
    monitors = Monitors(
        [structure_choice("monitor", name) for name in
         current_host().names("monitor")]
    )  # fmt: skip
    for _ in range(3):
        one.step()
        monitors(one, one.read_metrics())
    assert capsys.readouterr().err == ""
