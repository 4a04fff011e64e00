"""Parameters of SAELens that have no equivalent here, and what to use instead."""

from __future__ import annotations

TOML = {
    "hook_head_index": "model.head",
    "model_from_pretrained_kwargs": "[model]",
    "prepend_bos": "dataset.prepend_bos",
    "sequence_separator_token": "dataset.separator",
    "exclude_special_tokens": "dataset.exclude_special_tokens",
    "disable_concat_sequences": "dataset.concat",
    "seqpos_slice": "dataset.positions",
    "lr_end": "training.lr_schedule.end",
    "n_restart_cycles": "training.lr_schedule.cycles",
    "adam_beta1": "training.optimizer.betas",
    "adam_beta2": "training.optimizer.betas",
    "autocast": "training.autocast",
    "decoder_heuristic_init": "sae.init.decoder_norm",
    "decoder_init_norm": "sae.init.decoder_norm",
    "normalize_sae_decoder": "sae.decoder_norm",
    "apply_b_dec_to_input": "sae.apply_b_dec_to_input",
    "jumprelu_init_threshold": "sae.jumprelu_init_threshold",
    "jumprelu_bandwidth": "sae.jumprelu_bandwidth",
    "from_pretrained_path": "sae.init_from",
    "eval_every_n_wandb_logs": "evaluation.every_tokens",
    "n_eval_batches": "evaluation.tokens",
    "seed": "seed",
    "run_name": "name",
    "output_path": "output",
}
"""Parameters that exist only as settings of an experiment file, with their keys there."""

CACHED = (
    'write activations to disk with `saecore cache`, then set dataset.type = "cached" and '
    "dataset.path in the experiment file"
)
FINE_TUNING = (
    "to fine-tune a trained SAE, set sae.init_from and training.tokens in the experiment file; a "
    "factor of 0 in training.lr_factors freezes a parameter"
)

INSTEAD = {
    "use_cached_activations": CACHED,
    "cached_activations_path": CACHED,
    "resume_from_checkpoint": "resume with SAETrainingRunner(cfg).run(resume=True)",
    "is_dataset_tokenized": "a column of token ids is recognized; remove it",
    "noise_factor": "noise on activations is not supported; remove it",
    "finetuning_method": FINE_TUNING,
    "finetuning_tokens": FINE_TUNING,
    "compile_llm": "compiling the model is not supported; remove it",
    "compile_sae": "compiling the SAE is not supported; remove it",
    "autocast_lm": "set model.dtype in the experiment file",
}
"""Other parameters without an equivalent, with what to do instead."""


def absent(name: str) -> str | None:
    """Explain why a SAELens parameter does not exist here, and what to do instead.

    Returns:
        None for names that are not in the tables.
    """
    if name in TOML:
        return f"no parameter here; set {TOML[name]} in the experiment file that cfg.toml() gives"
    return f"no parameter here; {INSTEAD[name]}" if name in INSTEAD else None
