"""The half of the comparisons that runs in SAELens' environment; imports nothing of saecore.

`peer_saelens.py train|roundtrip|published JOB.json`; each job names its files, and the answer is
written to the job's `answer`.
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


def published(job: dict) -> dict:
    """Load what saecore has published, from a directory and from the hub of HF_ENDPOINT.

    Args:
        job: `repository` on the hub, the same as a `directory`, `saes` (their names), `input`
            (safetensors with one x for each name).
    """
    inputs, answers = load_file(job["input"]), {}
    loaders = {
        "directory": lambda name: (sae_lens.SAE.load_from_disk(f"{job['directory']}/{name}"), None),
        "hub": lambda name: sae_lens.SAE.from_pretrained_with_cfg_and_sparsity(
            job["repository"], name
        )[::2],
    }
    for name in job["saes"]:
        for way, load in loaders.items():
            answer = {}
            try:
                sae, sparsity = load(name)
                x = inputs[name]
                heads = sae.cfg.reshape_activations == "hook_z"
                rows = x.unflatten(-1, (2, -1)) if heads else x
                with torch.no_grad():
                    found = {"features": sae.encode(rows), "forward": sae(rows)}
                file = f"{job['output']}-{len(answers)}.safetensors"
                save_file({key: one.contiguous() for key, one in found.items()}, file)
                answer = {
                    "class": type(sae).__name__,
                    "file": file,
                    "hook_name": sae.cfg.metadata.hook_name,
                    "sparsity": sparsity is not None,
                }
            except Exception as error:
                answer["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
            answers[f"{way}/{name}"] = answer
    return {"saes": answers}


def main() -> None:
    """Do one job."""
    job = json.loads(Path(sys.argv[2]).read_text())
    jobs = {"train": train, "roundtrip": roundtrip, "published": published}
    answer = jobs[sys.argv[1]](job)
    answer |= {"sae_lens": sae_lens.__version__, "torch": torch.__version__}
    answer["threads"] = torch.get_num_threads()
    Path(job["answer"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
