"""The kit finds what is wrong with plugins of the smaller kinds, and says what to change."""

import pytest

from saecore.testing import CHECKS, Nonconformance
from tests.testing.conftest import HEAD

GOOD = {
    "activation": """\
from saecore.core.activation import Activation


class Mine(Activation):
    def __init__(self, config, shape):
        super().__init__()

    def select(self, encoding):
        return encoding.above(0.0)
""",
    "schedule": """\
class Mine:
    def __init__(self, config):
        self.calls = 0

    def __call__(self, step, total):
        return max(0.0, 1.0 - step / total)
""",
    "optimizer": """\
import torch


class Mine(torch.optim.Adam):
    def __init__(self, config, parameters, lr):
        super().__init__(parameters, lr=lr)
""",
    "normalizer": """\
class Mine:
    tokens = 48

    def __init__(self, config):
        self.factor = 1.0

    def estimate(self, batches):
        norms = [batch.inputs.norm(dim=-1).mean() for batch in batches]
        self.factor = len(norms) / float(sum(norms))

    def apply(self, batch):
        return batch.map(lambda x: x * self.factor)

    def restorer(self, batch):
        return None

    def fold(self, sae):
        sae.scale_input(self.factor)

    def state_dict(self):
        return {"factor": self.factor}

    def load_state_dict(self, state):
        self.factor = state["factor"]
""",
    "dead_latents": """\
class Mine:
    def __init__(self, config):
        pass

    def after_tokens(self, batch_size):
        return 100

    def acts(self, step):
        return False

    def after_step(self, sae, optimizer, batch, context):
        raise NotImplementedError

    def losses(self, sae, batch, output, context):
        dead = context.dead.nonzero(as_tuple=True)[0]
        pre = sae.preactivations(batch.inputs, dead)
        return {"revival": -pre.sum(1).mean() / max(1, len(dead))}
""",
    "dataset": """\
import hashlib
from saecore.core.dataset import Document


class Mine:
    def __init__(self, config, tokenizer):
        self.texts = {f"{i}": f"text {i}" for i in range(4)}
        self.fingerprint = hashlib.sha256(repr(self.texts).encode()).hexdigest()

    def __len__(self):
        return len(self.texts)

    def __iter__(self):
        return (Document(name, text) for name, text in self.texts.items())
""",
    "logger": """\
class Mine:
    def __init__(self, config, run_dir):
        self.file = run_dir / "mine.txt"

    def start(self, run):
        self.file.write_text(run.name)

    def scalars(self, step, values):
        self.file.write_text(f"{step} {dict(values)}")

    def artifact(self, path):
        pass

    def close(self):
        pass
""",
    "evaluator": """\
from saecore.core.evaluator import Metric
from saecore.evaluation.batches import HookReader


def Mine(config):
    def measure(sae, held_out):
        backend, tokens = held_out.model, held_out.contexts
        reading = HookReader.of(sae, backend)
        value = 0.0
        for part in tokens.split(4):
            x, _ = reading.activations(backend, part)
            value += float(sae.encode(x).sum())
        return {"sum": Metric(value, tokens.numel())}

    return measure
""",
}

BROKEN = [
    ("activation", "encoding.above(0.0)",
     "__import__('attrs').evolve(encoding, center=None, scale=None).above(0.0)",
     r"other features than for x - center\n  use the methods of the encoding"),
    ("activation", "encoding.above(0.0)", "encoding.above(0.0).dense()",
     r"select gave a Tensor\n  return the Codes"),
    ("activation", "return encoding.above(0.0)", "import torch\n"
     "        codes = encoding.above(0.0)\n"
     "        return codes.with_values(torch.rand_like(codes.values))",
     r"two calls give different features\n  use no random numbers"),
    ("activation", "return encoding.above(0.0)",
     "codes = encoding.above(0.0)\n        return codes.with_values(codes.values.detach() "
     "+ 0 * codes.values)", r"backward gives x a gradient of 0 along .*\n.*straight_through="),
    ("activation", "super().__init__()", "super().__init__()\n        self.limit = 0.0\n\n"
     "    def train_select(self, encoding, context):\n        self.limit += 0.1\n"
     "        return encoding.above(self.limit), {}",
     r"backward|resumed from a saved state"),
    ("schedule", "max(0.0, 1.0 - step / total)", "1.0 - 2 * step / total",
     r"gives -.*\n  return a finite number ≥ 0"),
    ("schedule", "max(0.0, 1.0 - step / total)", "1 / (total - 1)",
     r"in a run of 1 steps it raises ZeroDivisionError"),
    ("schedule", "return", "import torch\n        return torch.ones(()) *",
     r"gives a Tensor\n  return a Python float"),
    ("schedule", "return", "self.calls += 1\n        return 0.1 * self.calls +",
     r"called in another order .*\n  compute the multiplier from \(step, total\) alone"),
    ("optimizer", "lr=lr)", "lr=lr)\n\n    def step(self):\n        for group in self.param_groups:"
     "\n            group['lr'] = 0.05\n        super().step()",
     r"while the learning rate is 0\n  read group\[\"lr\"\]"),
    ("optimizer", "lr=lr)", "lr=lr, maximize=True)", r"do not come closer to a minimum"),
    ("optimizer", "lr=lr)", "lr=lr)\n\n    def state_dict(self):\n        return {'state': {}, "
     "'param_groups': super().state_dict()['param_groups']}",
     r"resumed from a saved state, it gives other parameters"),
    ("normalizer", "sae.scale_input(self.factor)", "pass",
     r"other features on raw activations .*\n  move the scale"),
    ("normalizer", "sae.scale_input(self.factor)",
     "sae.encoder.data.mul_(self.factor); sae.b_dec.data.div_(self.factor)",
     r"should reconstruct every input does not\n  undo the scale in W_dec"),
    ("normalizer", 'self.factor = state["factor"]', "pass",
     r"with its state loaded it scales differently\n  put the whole estimate"),
    ("normalizer", "batch.map(lambda x: x * self.factor)", "batch.map(lambda x: x[:, :2])",
     r"apply changes the shape"),
    ("normalizer", "batch.map(lambda x: x * self.factor)",
     "batch.map(lambda x: x.mul_(self.factor))", r"apply changes its batch in place"),
    ("dead_latents", "max(1, len(dead))", "len(dead)",
     r"pre|with 0 of 20 latents dead, 'revival' is no finite scalar"),
    ("dead_latents", "-pre.sum(1).mean()", "-pre.sum(1)", r"'revival' is no finite scalar tensor"),
    ("dead_latents", "return {", "output.losses.clear()\n        return {",
     r"losses changes the step's own losses"),
    ("dead_latents", "return 100", "return 0", r"after_tokens\(24\) is 0\n  give the tokens"),
    ("dead_latents", "return False\n\n    def after_step(self, sae, optimizer, batch, context):\n"
     "        raise NotImplementedError", "return True\n\n    def after_step(self, sae, *_):\n"
     "        return sae.b_enc", r"after_step gave \[20\] of torch.float64\n  return a mask"),
    ("normalizer", "return None", "return lambda x: x",
     r"restorer\(batch\) does not undo apply\(batch\)"),
    ("dataset", 'repr(self.texts)', "repr(id(self))",
     r"two builds have different fingerprints\n  hash names and contents"),
    ("dataset", "Document(name,", 'Document("same",', r"two documents are called 'same'"),
    ("dataset", "return len(self.texts)", "return 7", r"len\(\) is 7, and 4 documents come"),
    ("dataset", "return (Document(name, text)", "return (text", r"a document is a str\n  yield"),
    ("dataset", "self.texts.items()", "__import__('random').sample(list(self.texts.items()), 4)",
     r"read a second time, the documents differ|two"),
    ("logger", "self.file.write_text(f\"{step} {dict(values)}\")", "int(values['extra'])",
     r"scalars \(call 2 of 7\) raised KeyError"),
    ("logger", "def artifact(self, path):\n        pass",
     "def artifact(self, path):\n        path.read_text()",
     r"artifact \(call 6 of 7\) raised IsADirectoryError"),
    ("evaluator", "Metric(value, tokens.numel())", "value",
     r"'sum' is a float\n  return saecore.core.evaluator.Metric"),
    ("evaluator", "float(sae.encode(x).sum())", "sae.encode(x).sum()",
     r"has the value tensor.*\n  give a finite Python float"),
    ("evaluator", "Metric(value, tokens.numel())", "Metric(value, 0)", r"was measured on 0 of 96"),
    ("evaluator", "value = 0.0", "import random\n        value = random.random()",
     r"a second evaluation gives other figures"),
    ("evaluator", "value = 0.0", "value = 0.0\n        sae.b_enc.data.zero_()",
     r"a second evaluation gives other figures|it changes b_enc"),
    ("evaluator", "{\"sum\": Metric(value, tokens.numel())}", "{}", "it gave no figures"),
    ("evaluator", "{\"sum\": Metric(value, tokens.numel())}",
     "__import__('saecore').core.evaluator.NotApplicable('too small')",
     r"does not apply to the kit's SAE: too small\n  check it by tests"),
]  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_good_ones_pass(plugin, kind):
    """A small plugin of each kind keeps its contract."""
    plugin(kind, GOOD[kind])
    CHECKS[kind]("mine")


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"), BROKEN, ids=[f"{k}-{i}" for i, (k, *_) in enumerate(BROKEN)]
)
def test_broken_ones_are_found(plugin, monkeypatch, kind, old, new, message):
    """Each fault is found, by a message that names the plugin, the fault and the remedy."""
    from saecore.testing import component

    monkeypatch.setattr(component, "_check_imports", lambda choice: None)  # a process each
    assert old in GOOD[kind]
    plugin(kind, GOOD[kind].replace(old, new))
    with pytest.raises(Nonconformance, match=message) as caught:
        CHECKS[kind]("mine")
    assert str(caught.value).startswith(f"{kind}.mine (file plugin_kit_")


def test_settings_that_can_be_changed(plugin):
    """Settings are frozen."""
    plugin("schedule", GOOD["schedule"], HEAD.replace("@attrs.frozen", "@attrs.define"))
    with pytest.raises(Nonconformance, match="Config can be changed\n  decorate Config with"):
        CHECKS["schedule"]("mine")
