"""Nested dictionaries: the losses are those of the prefixes, fixed or drawn."""

import pytest

from saecore import Shape
from saecore.core.step import Batch
from saecore.errors import ConfigError
from tests.saecore_plugins.architectures.build import choice, context, inputs, make


def prefix_loss(sae, features, x, width):
    """Mean squared error of the reconstruction from the first `width` latents."""
    part = (features[:, :width] / sae.decoder_norms()[:width]) @ sae.W_dec[:width] + sae.b_dec
    return (part - x).square().sum(-1).mean().item()


def step(sae, x, number=0, seed=0):
    """Losses, levels and dense features of one training step."""
    output = sae.training_step(Batch(x, x), context(sae, x, step=number, seed=seed))
    return output, output.codes.dense() * sae.decoder_norms()


def test_fixed_widths():
    """One loss for each width, that of the whole under its own name."""
    sae, x = make("matryoshka_batchtopk", matryoshka_widths=[5, 11]), inputs()
    output, features = step(sae, x)
    assert set(output.losses) == {"mse_loss", "inner_mse_loss_5", "inner_mse_loss_11"}
    for name, width in (("inner_mse_loss_5", 5), ("inner_mse_loss_11", 11), ("mse_loss", 20)):
        assert output.losses[name].item() == pytest.approx(prefix_loss(sae, features, x, width))
    assert [(one.start, one.stop) for one in output.levels] == [(0, 5), (5, 11), (11, 20)]


def test_random_widths():
    """The losses are those of the widths drawn for the step; the last is the whole."""
    sae = make("matryoshka_batchtopk", matryoshka_widths=[], random_widths=3)
    x = inputs()
    for number in range(5):
        output, features = step(sae, x, number)
        widths = [one.stop for one in output.levels]
        assert widths[-1] == 20
        assert widths == sorted(set(widths))
        assert 2 <= len(widths) <= 4
        for i, width in enumerate(widths[:-1]):
            ours = output.losses[f"inner_mse_loss_{i}"].item()
            assert ours == pytest.approx(prefix_loss(sae, features, x, width))
        assert len(output.losses) == len(widths)


def test_random_widths_belong_to_the_step():
    """The same seed and step draw the same widths; other steps and seeds draw others; small widths
    are more frequent than large ones.
    """
    sae = make("matryoshka_batchtopk", matryoshka_widths=[], random_widths=3, d_sae=200)
    x = inputs()

    def drawn(number, seed=0):
        return tuple(one.stop for one in step(sae, x, number, seed)[0].levels)

    every = [drawn(number) for number in range(20)]
    assert every == [drawn(number) for number in range(20)]
    assert len(set(every)) > 15
    assert every != [drawn(number, seed=1) for number in range(20)]
    inner = [width for widths in every for width in widths[:-1]]
    assert sum(width < 50 for width in inner) > len(inner) / 2


def test_refusals():
    """Widths beyond d_sae are refused when the SAE is built."""
    table = {"architecture": "matryoshka_batchtopk", "k": 2, "matryoshka_widths": [4, 40]}
    with pytest.raises(ConfigError, match=r"matryoshka_widths: expected up to d_sae = 20, got 40"):
        choice("architecture", table).build(Shape(6, 6, 20))
