"""Models that write into their tensors in place, and their twins that do not."""

from contextlib import contextmanager

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from saecore.models.huggingface import HuggingFaceBackend
from saecore.models.read_state import model_behind
from saecore.randomness import generator

D, VOCABULARY, LAYERS = 12, 31, 3
TOKENS = torch.arange(2 * 9).view(2, 9) * 5 % VOCABULARY
HOOKS = (
    "embed",
    *(
        f"blocks.{layer}{part}"
        for layer in range(LAYERS)
        for part in (":in", ".norm:in", ".norm", ".attention", ".mlp:in", ".mlp", "")
    ),
    "head:in",
)


class ToyConfig(PretrainedConfig):
    """Whether the model writes in place."""

    model_type = "toy"

    def __init__(self, in_place=True, **options):
        self.in_place = in_place
        super().__init__(**options)


class Block(nn.Module):
    """Attention and MLP side by side, as in Falcon."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.norm, self.attention = nn.LayerNorm(D), nn.Linear(D, D)
        self.mlp, self.dropout = nn.Sequential(nn.Linear(D, D), nn.Tanh()), nn.Dropout(0.5)

    def forward(self, hidden_states):
        """In place, every tensor is overwritten as soon as it is no longer needed."""
        normed = self.norm(hidden_states)
        attention, mlp = self.attention(normed), self.mlp(normed)
        if not self.in_place:
            return hidden_states + 2 * self.dropout(mlp + attention)
        normed.fill_(7)
        mlp += attention
        attention.fill_(8)
        mlp = self.dropout(mlp)
        mlp.mul_(2)
        hidden_states += mlp
        mlp.fill_(9)
        return hidden_states


class ToyModel(PreTrainedModel):
    """A causal language model without mixing of positions."""

    config_class = ToyConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed, self.head = nn.Embedding(VOCABULARY, D), nn.Linear(D, VOCABULARY, bias=False)
        self.blocks = nn.ModuleList(Block(config.in_place) for _ in range(LAYERS))

    def get_input_embeddings(self):
        """The embedding."""
        return self.embed

    def get_output_embeddings(self):
        """The head."""
        return self.head

    def forward(self, input_ids):
        """Logits."""
        hidden_states = self.embed(input_ids)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        logits = self.head(hidden_states)
        if self.config.in_place:
            hidden_states.detach().fill_(10)
        return CausalLMOutput(logits=logits)


def toy(in_place=True):
    """The model, in evaluation mode; both kinds have the same weights."""
    model = ToyModel(ToyConfig(in_place=in_place)).eval()
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            size = 1.0 if parameter.dim() == 1 else 0.4
            noise = torch.randn(parameter.shape, generator=generator(0, "toy", i))
            parameter.copy_(size * noise)
    return model


def toy_backend(in_place=True):
    """The model as a backend."""
    return HuggingFaceBackend(toy(in_place), None, "toy", {})


@contextmanager
def overwriting(model, last):
    """Before its last module runs, a model overwrites every tensor that it had before.

    Args:
        model: a transformers model or TransformerLens' bridge.
        last: path of the last module, in the transformers model.
    """
    inner, seen = model_behind(model), []
    modules = {*model.modules(), *inner.modules()}

    def see(module, *values):
        if module in modules:
            for value in values:
                items = value if isinstance(value, tuple) else (value,)
                seen.extend(item for item in items if isinstance(item, torch.Tensor))

    def overwrite(_, inputs):
        spared = {storage(value) for value in inputs}
        spared |= {storage(value) for value in (*inner.parameters(), *inner.buffers())}
        for value in seen:
            if value.is_floating_point() and storage(value) not in spared:
                value.detach().fill_(-7)
        seen.clear()

    handles = (
        nn.modules.module.register_module_forward_pre_hook(see),
        nn.modules.module.register_module_forward_hook(see),
        inner.get_submodule(last).register_forward_pre_hook(overwrite),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def storage(tensor):
    """Where a tensor's memory begins."""
    return tensor.untyped_storage().data_ptr()
