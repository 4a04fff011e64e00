"""The embedded model is what its card says."""

import json
import platform

import pytest
import torch

from saecore.activations.documents import held_out
from saecore.plugins import NoSettings
from saecore_plugins.datasets import python_corpus
from saecore_plugins.models import tiny_lm


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_card():
    """The held-out loss, recomputed on the interpreter's standard library, is the card's; exactly
    on the Python version that the card names.
    """
    card = json.loads((tiny_lm.DIRECTORY / "card.json").read_text())
    backend = tiny_lm.build(NoSettings(), torch.device("cpu"), torch.float32)
    corpus = python_corpus.build(NoSettings(), None)
    texts = [document.text for document in corpus if held_out(document.name, 0.05)]
    encoded = backend.tokenizer.backend_tokenizer.encode_batch(texts)
    stream = torch.tensor([token for text in encoded for token in [0, *text.ids]])
    exact = platform.python_version() == card["python"]
    if exact:
        assert len(stream) == card["held_out_tokens"]
    rows = stream[: len(stream) // 256 * 256].view(-1, 256)
    rows = rows if exact else rows[:200]
    total = 0.0
    for part in rows.split(32):
        log_p = backend.run_with(part, {})[:, :-1].log_softmax(-1)
        total -= float(log_p.gather(-1, part[:, 1:, None]).sum())
    loss = total / (len(rows) * 255)
    tolerance = 1e-3 if exact else 0.1
    assert loss == pytest.approx(card["held_out_loss_nats_per_token"], rel=tolerance)
