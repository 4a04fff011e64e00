"""The half of the comparisons that runs in SAELens' environment; imports nothing of saecore.

`peer_saelens.py train JOB.json` and `peer_saelens.py roundtrip JOB.json`; each job names its
files, and the answer is written to the job's `answer`.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import sae_lens
import torch
from safetensors.torch import load_file, save_file


def train(job: dict) -> dict:
    """Train SAELens' TopKTrainingSAE with its own trainer on recorded batches.

    Args:
        job: `activations` (.npy `[N, d_in]`), `save`, `seed`, `sae` and `trainer` (keyword
            arguments of the two configs), `initial` (weights to start from, or None).
    """
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(job["seed"])
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(**job["sae"]))
    if job["initial"]:
        with torch.no_grad():
            for name, tensor in load_file(job["initial"]).items():
                getattr(sae, name).copy_(tensor)
    activations = np.load(job["activations"], mmap_mode="r")
    size = job["trainer"]["train_batch_size_samples"]
    batches = (
        torch.from_numpy(np.array(activations[at : at + size]))
        for at in range(0, len(activations), size)
    )
    cfg = SAETrainerConfig(**job["trainer"], logger=LoggingConfig(log_to_wandb=False))
    trainer = SAETrainer(cfg, sae, batches)
    began = time.monotonic()
    trainer.fit()
    seconds = time.monotonic() - began
    sae.save_inference_model(job["save"])
    return {"seconds": seconds, "tokens": trainer.n_training_samples}


def roundtrip(job: dict) -> dict:
    """Load an SAE of saecore's, run it, and save it again in both of SAELens' ways.

    Args:
        job: `sae` (directory), `input` (safetensors with x), `output` (safetensors to write),
            `save_model` and `save_inference_model` (directories to write).
    """
    x = load_file(job["input"])["x"]
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        sae = sae_lens.SAE.load_from_disk(job["sae"])
        features = sae.encode(x)
        save_file(
            {"features": features, "decoded": sae.decode(features), "forward": sae(x)},
            job["output"],
        )
        sae.save_model(job["save_model"])
        problem = None
        try:  # as something to train on; the file is an inference one, so it need not work
            training = sae_lens.TrainingSAE.load_from_disk(job["sae"])
            training.save_inference_model(job["save_inference_model"])
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
    return {
        "class": type(sae).__name__,
        "hook_name": sae.cfg.metadata.hook_name,
        "warnings": [f"{one.category.__name__}: {one.message}" for one in caught],
        "training_problem": problem,
    }


def main() -> None:
    """Do one job."""
    job = json.loads(Path(sys.argv[2]).read_text())
    answer = {"train": train, "roundtrip": roundtrip}[sys.argv[1]](job)
    answer |= {"sae_lens": sae_lens.__version__, "torch": torch.__version__}
    answer["threads"] = torch.get_num_threads()
    Path(job["answer"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
