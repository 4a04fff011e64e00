"""The parameters of `LanguageModelSAERunnerConfig`, each with its meaning here."""

from __future__ import annotations

from typing import Any

import attrs

from saecore.config.validators import above, at_least, device


@attrs.frozen(kw_only=True)
class Parameters:
    """Names and meanings are those of SAELens 3 to 5, but for what the descriptions say."""

    model_name: str = "tiny_lm"
    """Language model: "tiny_lm" (embedded), a local directory, a name on the hub, or one of
    TransformerLens' short names for GPT-2, Pythia and Gemma, such as "gpt2-small"."""
    hook_name: str = "blocks.2.hook_resid_post"
    """Hook whose activations the SAE reads, by TransformerLens name or module path."""
    hook_layer: int | None = attrs.field(default=None, validator=at_least(0))
    """Layer of the hook; only checked against hook_name."""
    d_in: int | None = attrs.field(default=None, validator=at_least(1))
    """Size of the activations; only checked against the model's."""

    architecture: str = "standard"
    """Any installed architecture, such as "standard", "gated", "jumprelu" or "topk"."""
    d_sae: int | None = attrs.field(default=None, validator=at_least(1))
    """Number of latents; default: by expansion_factor."""
    expansion_factor: float | None = attrs.field(default=None, validator=above(0))
    """Number of latents as a multiple of d_in; default, without d_sae: 4."""
    activation_fn: str | None = None
    """Function from pre-activations to features; default: the architecture's own. One that is an
    architecture here, such as "topk", makes it the architecture of a "standard" SAE."""
    activation_fn_kwargs: dict[str, Any] = attrs.field(factory=dict)
    """Settings of the activation function, such as {"k": 32}."""

    lr: float = attrs.field(default=3e-4, validator=above(0))
    """Learning rate."""
    l1_coefficient: float | None = attrs.field(default=None, validator=at_least(0))
    """Weight of the sparsity penalty (of jumprelu: of its L0); default: 1e-3 where there is a
    penalty."""
    lp_norm: float = attrs.field(default=1.0, validator=above(0))
    """p of the sparsity penalty of a standard SAE."""
    lr_scheduler_name: str = "constant"
    """Any installed schedule, such as "constant", "cosineannealing" or
    "cosineannealingwarmrestarts"."""
    lr_warm_up_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear growth of the learning rate at the start."""
    lr_decay_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear decay of the learning rate to zero at the end."""
    l1_warm_up_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear growth of the sparsity penalty at the start."""

    use_ghost_grads: bool = False
    """Give dead latents ghost gradients; default: the auxiliary loss for topk and its relatives,
    as in SAELens, and nothing for the others."""
    feature_sampling_window: int = attrs.field(default=2000, validator=at_least(1))
    """Steps over which the firing density of latents is measured."""
    dead_feature_window: int = attrs.field(default=1000, validator=at_least(1))
    """Steps without firing after which a latent is dead."""
    dead_feature_threshold: float = attrs.field(default=1e-8, validator=at_least(0))
    """Without effect, as in SAELens: a latent is dead when it has not fired at all."""
    normalize_activations: str = "none"
    """Any installed normalizer, such as "none" or "expected_average_only_in"."""

    dataset_path: str = "python_corpus"
    """Text: a dataset of saecore that needs no settings, such as "python_corpus", or a local file
    or directory, or a name on the hub."""
    streaming: bool = True
    """Read a dataset on disk or on the hub as training needs it, in place of downloading and
    tokenising all first; a dataset of saecore is always read whole."""
    context_size: int = attrs.field(default=128, validator=at_least(2))
    """Tokens per context."""
    train_batch_size_tokens: int = attrs.field(default=4096, validator=at_least(1))
    """Tokens per optimizer step."""
    store_batch_size_prompts: int = attrs.field(default=32, validator=at_least(1))
    """Contexts per forward pass of the language model."""
    n_batches_in_buffer: int = attrs.field(default=20, validator=at_least(2))
    """Forward passes whose activations the mixing window holds; half of them are new each time."""
    training_tokens: int = attrs.field(default=2_000_000, validator=at_least(1))
    """Tokens to train on."""

    log_to_wandb: bool = False
    """Send figures to Weights & Biases; without it they are in metrics.jsonl only."""
    wandb_project: str | None = None
    """Project at Weights & Biases; default: the experiment's name."""
    wandb_log_frequency: int = attrs.field(default=10, validator=at_least(1))
    """Steps between two lines of figures, in metrics.jsonl too."""
    n_checkpoints: int = attrs.field(default=0, validator=at_least(0))
    """Checkpoints spread evenly over the run, all of them kept; with 0 one every 10 minutes, of
    which two are kept."""
    checkpoint_path: str = "checkpoints"
    """Directory for runs, relative to the current one."""
    device: str = attrs.field(default="auto", validator=device)
    """Where everything runs: "auto" (cuda, mps, cpu in this order) or a torch device."""
    dtype: str = "float32"
    """Precision of the SAE's weights."""
