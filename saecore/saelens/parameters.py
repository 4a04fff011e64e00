"""The parameters of `LanguageModelSAERunnerConfig`."""

from __future__ import annotations

from typing import Any

import attrs

from saecore.plugins.fields import above, at_least, device


@attrs.frozen(kw_only=True)
class Parameters:
    """Names and meanings follow SAELens 3 to 5, except where a description says otherwise."""

    model_name: str = "tiny_lm"
    """Language model: "tiny_lm" (built in), a local directory, a name on the hub, or a short name
    of TransformerLens for GPT-2, Pythia and Gemma, such as "gpt2-small"."""
    hook_name: str = "blocks.2.hook_resid_post"
    """Hook whose activations the SAE reads, by TransformerLens name or module path."""
    hook_layer: int | None = attrs.field(default=None, validator=at_least(0))
    """Layer of the hook; only checked against hook_name."""
    d_in: int | None = attrs.field(default=None, validator=at_least(1))
    """Size of the activations; only checked against the model."""

    architecture: str = "standard"
    """Any installed architecture, such as "standard", "gated", "jumprelu" or "topk"."""
    d_sae: int | None = attrs.field(default=None, validator=at_least(1))
    """Number of latents; default: from expansion_factor."""
    expansion_factor: float | None = attrs.field(default=None, validator=above(0))
    """Number of latents as a multiple of d_in; default, without d_sae: 4."""
    activation_fn: str | None = None
    """Function from pre-activations to features; default: that of the architecture. A name of an
    architecture, such as "topk", replaces the "standard" architecture."""
    activation_fn_kwargs: dict[str, Any] = attrs.field(factory=dict)
    """Settings of the activation function, such as {"k": 32}."""

    lr: float = attrs.field(default=3e-4, validator=above(0))
    """Learning rate."""
    l1_coefficient: float | None = attrs.field(default=None, validator=at_least(0))
    """Coefficient of the sparsity penalty (for jumprelu, the L0 penalty); default: 1e-3 if the
    architecture has a penalty."""
    lp_norm: float = attrs.field(default=1.0, validator=above(0))
    """p of the Lp sparsity penalty of a standard SAE."""
    lr_scheduler_name: str = "constant"
    """Any installed schedule, such as "constant", "cosineannealing" or
    "cosineannealingwarmrestarts"."""
    lr_warm_up_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear warm-up of the learning rate."""
    lr_decay_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear decay of the learning rate to zero at the end of training."""
    l1_warm_up_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear warm-up of the sparsity penalty."""

    use_ghost_grads: bool = False
    """Train dead latents with ghost gradients. Otherwise topk and its variants use the auxiliary
    loss, as in SAELens, and other architectures do nothing."""
    feature_sampling_window: int = attrs.field(default=2000, validator=at_least(1))
    """Steps over which the firing density of latents is measured."""
    dead_feature_window: int = attrs.field(default=1000, validator=at_least(1))
    """Steps without firing after which a latent is dead."""
    dead_feature_threshold: float = attrs.field(default=1e-8, validator=at_least(0))
    """No effect, as in SAELens: a latent is dead if it has not fired at all."""
    normalize_activations: str = "none"
    """Any installed normalizer, such as "none" or "expected_average_only_in"."""

    dataset_path: str = "python_corpus"
    """Text: a dataset plugin that needs no settings, such as "python_corpus", a local file or
    directory, or a name on the hub."""
    streaming: bool = True
    """Read a dataset from disk or the hub while training, instead of downloading and tokenizing all
    of it first; a dataset plugin is always read whole."""
    context_size: int = attrs.field(default=128, validator=at_least(2))
    """Tokens per context."""
    train_batch_size_tokens: int = attrs.field(default=4096, validator=at_least(1))
    """Tokens per optimizer step."""
    store_batch_size_prompts: int = attrs.field(default=32, validator=at_least(1))
    """Contexts per forward pass of the language model."""
    n_batches_in_buffer: int = attrs.field(default=20, validator=at_least(2))
    """Forward passes whose activations the mixing buffer holds; each fill replaces half of them."""
    training_tokens: int = attrs.field(default=2_000_000, validator=at_least(1))
    """Tokens to train on."""

    log_to_wandb: bool = False
    """Log to Weights & Biases in addition to metrics.jsonl."""
    wandb_project: str | None = None
    """Weights & Biases project; default: the name of the experiment."""
    wandb_log_frequency: int = attrs.field(default=10, validator=at_least(1))
    """Steps between logged metrics, in metrics.jsonl too."""
    n_checkpoints: int = attrs.field(default=0, validator=at_least(0))
    """Number of checkpoints, spread evenly over the run and all kept; 0 saves one every 10 minutes
    and keeps the last two."""
    checkpoint_path: str = "checkpoints"
    """Directory for runs, relative to the current directory."""
    device: str = attrs.field(default="auto", validator=device)
    """Device of model and SAE: "auto" (the first of cuda, mps, cpu) or a torch device."""
    dtype: str = "float32"
    """dtype of the SAE's weights."""
