"""sparsify's training step: its own `Trainer.fit`, hooked to a model that gives our batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from serve import Server, finisher, pool
from sparsify import SaeConfig, TrainConfig, Trainer
from torch import Tensor, nn


class Tokens:
    """A data set without an end, of which only the number of tokens matters."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": torch.ones(self.batch, dtype=torch.int64)}


class Model(nn.Module):
    """A language model whose only layer gives the next batch `[1, batch, d_in]`."""

    def __init__(self, job: dict[str, Any], server: Server) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.batches = pool(job)
        self.device = self.batches[0].device
        self.steps = server.steps(lambda n: self.batches[n % len(self.batches)], finisher(job))
        self.dummy_inputs = {"input_ids": torch.ones(1, 1, dtype=torch.int64)}
        self.config = SimpleNamespace(num_hidden_layers=1)

    @property
    def base_model(self) -> Model:
        """Itself."""
        return self

    def forward(self, input_ids: Tensor) -> Tensor:
        """The next batch; for the trainer's question about sizes, a part of one."""
        asked = input_ids.shape[-1] > 1
        batch: Tensor = next(self.steps) if asked else self.batches[0][:1]
        output: Tensor = self.layer(batch[None])
        return output


def main() -> None:
    """Serve."""
    server = Server()
    job = server.job
    trainer = Trainer(
        TrainConfig(
            SaeConfig(num_latents=job["d_sae"], k=job["sae"]["k"]),
            batch_size=1,
            optimizer=job["optimizer"],
            lr=job["lr"],
            hookpoints=["layer"],
            save_every=10**9,
            log_to_wandb=False,
        ),
        Tokens(job["batch"]),
        Model(job, server),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
