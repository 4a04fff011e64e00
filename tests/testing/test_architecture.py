"""The kit finds what is wrong with an architecture, and says what to change."""

import pytest

from saecore.errors import PluginError
from saecore.testing import Nonconformance, check_architecture
from tests.testing.conftest import HEAD

GOOD = """\
import attrs
import torch
from saecore import SAE, ops


class Mine(SAE):
    architecture = "mine"

    def select(self, x):
        return ops.select_above(x, self.W_enc, self.b_enc, 0.0, center=self.center)
"""


def test_a_good_one_passes(plugin):
    """An SAE that only says which latents are active keeps the whole contract."""
    plugin("architecture", GOOD)
    check_architecture("mine")
    check_architecture("mine", {"weight": 2.0, "apply_b_dec_to_input": False})


BROKEN = {
    "leading dimensions": (
        """
    def encode(self, x, latents=None):
        return super().encode(x, latents).flatten(0, -2)
""",
        r"encode\(x\[4, 6, 6\]\): expected \[4, 6, 20\], got \[24, 20\]\n  flatten leading",
    ),
    "encode alone": (
        """
    def encode(self, x, latents=None):
        return 2 * super().encode(x, latents)
""",
        r"encode\(x\) and encode_sparse\(x\)\.dense\(\) differ\n  override the parts",
    ),
    "slices": (
        """
    def encode(self, x, latents=None):
        return super().encode(x) if latents is None else super().encode(x, latents.flip(0))
""",
        r"encode\(x, latents\) and encode\(x\)\[:, latents\] differ",
    ),
    "forward": (
        """
    def forward(self, x):
        return super().forward(x) + x
""",
        r"forward\(x\) and decode\(encode\(x\)\) differ\n.*skip=\[\"forward\"\]",
    ),
    "no loss": (
        """
    def training_step(self, batch, context):
        output = super().training_step(batch, context)
        output.losses.clear()
        return output
""",
        r"training_step gave no losses\n  name at least one",
    ),
    "loss of a wrong shape": (
        """
    def training_step(self, batch, context):
        output = super().training_step(batch, context)
        output.losses["own"] = output.reconstruction.sum(-1)
        return output
""",
        r"loss 'own' is no finite scalar tensor \(got \[24\]\)\n  average it over tokens",
    ),
    "no gradient": (
        """
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.gain = torch.nn.Parameter(torch.ones(3))
""",
        r"parameter gain has no gradient.*\n  use it in the losses, or register it as a buffer",
    ),
    "a wrong gradient": (
        """
    def training_step(self, batch, context):
        codes = self.select(batch.inputs)
        half = codes.with_values((codes.values + codes.values.detach()) / 2)
        x_hat = ops.decode(half, self.W_dec, self.b_dec)
        losses = {"mse_loss": context.reconstruction_loss(x_hat)}
        return type(super().training_step(batch, context))(losses, codes, x_hat)
""",
        r"backward gives encoder a gradient of .* slope .*\n.*straight_through=\[\"encoder\"\]",
    ),
    "a published form that changes the trained one": (
        """
    def to_inference(self, *, in_place=False):
        self.b_enc.data += 1
        return super().to_inference(in_place=in_place)
""",
        r"to_inference changed b_enc of the SAE that is being trained\n  change a copy",
    ),
    "a published form with other features": (
        """
    def to_inference(self, *, in_place=False):
        result = super().to_inference(in_place=in_place)
        result.b_enc.data += 1
        return result
""",
        r"to_inference changes the features\n.*skip=\[\"inference\"\]",
    ),
    "a published form that always copies": (
        """
    def to_inference(self):
        return super().to_inference()
""",
        r"to_inference does not accept in_place\n  define it as to_inference\(self, \*, in_place",
    ),
    "what is not saved": (
        """
    made = 0.0

    def __init__(self, config, shape):
        super().__init__(config, shape)
        Mine.made += 0.01
        self.threshold = Mine.made

    def select(self, x):
        return ops.select_above(x, self.W_enc, self.b_enc, self.threshold, center=self.center)

    def scale_input(self, factor):
        super().scale_input(factor)
""",
        r"saved and loaded, it gives other numbers: features\n  make everything that decides it",
    ),
    "what cannot be loaded": (
        """
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.register_buffer("steps", torch.zeros(3))
""",
        r"cannot be saved and loaded: ReleaseError: .*steps is \[3\]",
    ),
    "folding": (
        """
    def scale_input(self, factor):
        self.encoder.data.mul_(factor)
""",
        r"after scale_input\(1\.7\) .*\n  override scale_input",
    ),
    "a global random number": (
        """
    def initialize(self, generator, decoder_norm):
        super().initialize(generator, decoder_norm)
        self.b_enc.data.add_(0.1 * torch.randn_like(self.b_enc))
""",
        r"two trainings with one seed end with different numbers.*\n  draw random numbers from",
    ),
    "forgotten state": (
        """
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.warmth = 1.0

    def training_step(self, batch, context):
        output = super().training_step(batch, context)
        output.losses["mse_loss"] = output.losses["mse_loss"] * self.warmth
        self.warmth *= 0.9
        return output
""",
        r"resumed from a saved state, training ends with different numbers.*\n  register what",
    ),
    "state that no file can hold": (
        """
    def get_extra_state(self):
        return {1, 2}

    def set_extra_state(self, state):
        pass
""",
        r"cannot be saved and loaded: ",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_ones_are_found(plugin, fault):
    """Each fault is found, by a message that names the plugin, the fault and the remedy."""
    body, message = BROKEN[fault]
    plugin("architecture", GOOD + body)
    with pytest.raises(Nonconformance, match=message) as caught:
        check_architecture("mine")
    assert str(caught.value).startswith("architecture.mine (file plugin_kit_")
    assert len(str(caught.value).splitlines()) <= 3


def test_a_wrong_name_is_found(plugin):
    """An SAE that calls itself something else could not be loaded again."""
    plugin("architecture", GOOD.replace('"mine"', '"yours"'))
    with pytest.raises(Nonconformance, match=r"set the class attribute architecture = \"mine\""):
        check_architecture("mine")


def test_what_is_no_sae_is_refused(plugin):
    """A builder that gives something else is refused wherever it is used."""
    plugin("architecture", "def Mine(config, shape):\n    return object()\n")
    with pytest.raises(PluginError, match=r"must be \(config: .*\) -> SAE; .* has no select"):
        check_architecture("mine")


def test_promises_that_are_not_made(plugin):
    """A documented exception is left out of the check, and only that one; misspelled ones are
    refused.
    """
    plugin("architecture", GOOD + BROKEN["forward"][0])
    with pytest.raises(Nonconformance, match="forward"):
        check_architecture("mine", skip=["inference"])
    plugin("architecture", GOOD + BROKEN["a published form with other features"][0])
    check_architecture("mine", skip=["inference"])
    plugin("architecture", GOOD + BROKEN["a wrong gradient"][0])
    check_architecture("mine", straight_through=["encoder", "b_enc", "b_dec"])
    with pytest.raises(Nonconformance, match=r"skip='infernce' is no promise"):
        check_architecture("mine", skip=["infernce"])
    with pytest.raises(Nonconformance, match=r"straight_through names 'W_gate'"):
        check_architecture("mine", straight_through=["W_gate"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('\n    """How much."""', ""), "Config.weight has no docstring.*\n  write a string"),
        (("made to measure", " "), "the summary is not one line"),
        (("weight: float = 1.0", "weight: float"), "weight: missing.*\n  pass the settings"),
        (
            ("weight: float = 1.0", "weight: float = attrs.field(default=1.0, "
             "converter=lambda x: x + 1)"),
            r"read back from experiment\.json, its settings are",
        ),
        (("import attrs\n", "import attrs\nimport torch\n"),
         "imports torch, which takes seconds\n  import it inside"),
    ],
    ids=["docstring", "summary", "default", "converter", "torch"],
)  # fmt: skip
def test_broken_declarations_are_found(plugin, change, message):
    """Settings and imports of a plugin are held to the rules of the house."""
    plugin("architecture", GOOD, HEAD.replace(*change))
    with pytest.raises(Nonconformance, match=message):
        check_architecture("mine")


def test_settings_that_are_no_attrs_class(plugin):
    """A class of settings that is not decorated is refused by the host itself, even where it
    inherits from one that is.
    """
    message = r"must be an attrs class, got .*; decorate it with @attrs\.frozen"
    with pytest.raises(PluginError, match=message):
        plugin("architecture", GOOD, HEAD.replace("@attrs.frozen\n", ""))
