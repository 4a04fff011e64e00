"""One run of SAELens' `LanguageModelSAETrainingRunner` on a model and tokens from disk.

SAELens' ways to a model lead to the hub, so the HookedTransformer it would train on is made here
from the same files, with TransformerLens' own conversion of GPT-2's weights.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

began = time.monotonic()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from sae_lens import (  # noqa: E402
    LanguageModelSAERunnerConfig,
    LanguageModelSAETrainingRunner,
    LoggingConfig,
    TopKTrainingSAEConfig,
)
from sae_lens.training.sae_trainer import SAETrainer  # noqa: E402
from transformer_lens import HookedTransformer, HookedTransformerConfig  # noqa: E402
from transformer_lens.loading_from_pretrained import convert_gpt2_weights  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402


def model(directory: str) -> HookedTransformer:
    """GPT-2 from a Hugging Face directory, nothing folded, nothing centered."""
    given = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    of = given.config
    config = HookedTransformerConfig(
        n_layers=of.n_layer,
        d_model=of.n_embd,
        n_ctx=of.n_positions,
        n_heads=of.n_head,
        d_head=of.n_embd // of.n_head,
        d_mlp=of.n_inner or 4 * of.n_embd,
        d_vocab=of.vocab_size,
        act_fn=of.activation_function,
        eps=of.layer_norm_epsilon,
        normalization_type="LN",
        original_architecture="GPT2LMHeadModel",
        device="cpu",
    )
    found = HookedTransformer(config, AutoTokenizer.from_pretrained(directory))
    found.load_state_dict(convert_gpt2_weights(given, config), strict=False)
    return found


def main() -> None:
    """Do the job named on the command line; the answer goes beside it."""
    file = Path(sys.argv[1])
    job = json.loads(file.read_text())
    rows = np.load(job["tokens_file"])
    runner = LanguageModelSAETrainingRunner(
        LanguageModelSAERunnerConfig(
            sae=TopKTrainingSAEConfig(d_in=job["d_in"], d_sae=job["d_sae"], k=job["k"]),
            model_name="embedded",
            hook_name=job["hook"],
            dataset_path="local",
            is_dataset_tokenized=True,
            streaming=False,
            prepend_bos=False,
            context_size=rows.shape[1],
            training_tokens=job["tokens"],
            train_batch_size_tokens=job["batch"],
            n_batches_in_buffer=job["window"] // rows.shape[1],  # it counts contexts
            store_batch_size_prompts=job["model_batch"],
            lr=job["lr"],
            lr_warm_up_steps=0,
            device="cpu",
            n_checkpoints=0,
            checkpoint_path=str(file.parent / "checkpoints"),
            output_path=str(file.parent / "output"),
            logger=LoggingConfig(log_to_wandb=False),
        ),
        override_dataset=Dataset.from_dict({"input_ids": rows.tolist()}),
        override_model=model(job["model"]),
    )
    spent = []
    fit = SAETrainer.fit

    def timed(trainer: SAETrainer) -> object:
        start = time.monotonic()
        sae = fit(trainer)
        spent.append(time.monotonic() - start)
        return sae

    SAETrainer.fit = timed
    runner.run()
    answer = {
        "training_seconds": spent[0],
        "tokens": job["tokens"],
        "seconds": time.monotonic() - began,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    file.with_suffix(".answer").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
