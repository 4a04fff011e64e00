"""Names of SAELens and TransformerLens that stand for something else here, or for nothing."""

from __future__ import annotations

import re
from pathlib import Path

_SHORT = (
    (re.compile(r"gpt2-small"), "gpt2"),
    (re.compile(r"pythia-[\w.-]+"), r"EleutherAI/\g<0>"),
    (re.compile(r"gemma-[\w.-]+"), r"google/\g<0>"),
    (re.compile(r"qwen3-([\d.]+)b"), r"Qwen/Qwen3-\g<1>B"),
    (re.compile(r"mistral-7b"), "mistralai/Mistral-7B-v0.1"),
)
"""TransformerLens' short names of models and what the hub calls them."""

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
"""Parameters of SAELens that are settings of an experiment file only, with their keys there."""

LATER = {
    "use_cached_activations": "activations kept on disk are not there yet",
    "cached_activations_path": "activations kept on disk are not there yet",
    "resume_from_checkpoint": "a run goes on with SAETrainingRunner(cfg).run(resume=True)",
    "is_dataset_tokenized": "whether a column holds tokens is found out",
    "noise_factor": "noise on activations is not there",
    "finetuning_method": "finetuning of a trained SAE is not there",
    "finetuning_tokens": "finetuning of a trained SAE is not there",
    "compile_llm": "compilation is not there",
    "compile_sae": "compilation is not there",
    "autocast_lm": "[model] of an experiment file has dtype",
}
"""Parameters of SAELens that have no equivalent setting, and what there is to say."""


def hub_name(model_name: str) -> str:
    """What the hub calls a model; directories and other names stay as they are."""
    if not Path(model_name).exists():
        for pattern, name in _SHORT:
            found = pattern.fullmatch(model_name)
            if found:
                return found.expand(name)
    return model_name


def layer_of(hook_name: str) -> int | None:
    """The layer that a hook's name says, the first number between its dots."""
    return next((int(part) for part in hook_name.split(".") if part.isdigit()), None)


def absent(name: str) -> str | None:
    """Why a parameter of SAELens is none here, and what to do; None for other names."""
    if name in TOML:
        return f"no parameter here; set {TOML[name]} in the experiment file that cfg.toml() gives"
    return f"no parameter here; {LATER[name]}" if name in LATER else None
