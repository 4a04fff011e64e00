"""SAELens' training step: its own `SAETrainer.fit` over our batches, nothing logged."""

from __future__ import annotations

import sae_lens
import torch
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from serve import Server, finisher, pool

CLASSES = {
    "topk": "TopK",
    "batchtopk": "BatchTopK",
    "matryoshka_batchtopk": "MatryoshkaBatchTopK",
    "jumprelu": "JumpReLU",
    "gated": "Gated",
    "standard": "Standard",
}
"""Our names, and the beginnings of its classes'."""


def main() -> None:
    """Serve."""
    server = Server()
    job = server.job
    device = job.get("device", "cpu")
    settings = dict(job["sae"])
    name = CLASSES[settings.pop("architecture")]
    config = getattr(sae_lens, f"{name}TrainingSAEConfig")
    sae = getattr(sae_lens, f"{name}TrainingSAE")(
        config(d_in=job["d_in"], d_sae=job["d_sae"], device=device, **settings)
    )
    with torch.no_grad():
        for bias, value in job["biases"].items():
            getattr(sae, bias).fill_(value)
    batches = pool(job)
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=100_000 * job["batch"],
            train_batch_size_samples=job["batch"],
            lr=job["lr"],
            lr_end=job["lr"],
            lr_warm_up_steps=100,
            device=device,
            autocast=job.get("autocast", False),
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae,
        server.steps(lambda n: batches[n % len(batches)], finisher(job)),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
