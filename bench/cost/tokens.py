"""Random tokens for measurements of a step: each contender sees the same, with nothing to pad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from rankbench.adapters import Adapter
from rankbench.bench.cost.rounds import Step, timed
from rankbench.bench.run.seeds import generator
from rankbench.bench.run.step import make_optimizer, optimizer_step
from rankbench.bench.suite import Training
from rankbench.tasks import Batch


@dataclass(frozen=True)
class RandomTokens:
    """A task without data: (batch, length) ids, and the loss over all outputs."""

    causal: bool
    batch: int
    length: int

    def draw(self) -> Batch:
        """Ids between 5 and 99."""
        ids = torch.randint(5, 100, (self.batch, self.length), generator=generator(0, "overhead"))
        return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, self.batch)

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Summed cross-entropy against class 0, or the tokens themselves for a causal model."""
        logits = model(**inputs).logits
        if self.causal:
            return functional.cross_entropy(
                logits.flatten(0, 1), inputs["input_ids"].flatten(), reduction="sum"
            )
        return functional.cross_entropy(
            logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device), reduction="sum"
        )


def training_step(
    model: nn.Module,
    adapter: Adapter,
    training: Training,
    batch: Batch,
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    accelerator: Accelerator,
) -> Step:
    """One synchronised step of the shared loop on this batch; returns its seconds."""
    wrapped, optimizer = accelerator.prepare(model.train(), make_optimizer(model, training))
    moved = {key: value.to(accelerator.device) for key, value in batch.inputs.items()}
    micro = [batch._replace(inputs=moved)]

    def step(turn: int) -> float:
        return timed(
            accelerator.device,
            lambda: optimizer_step(
                accelerator, wrapped, adapter, optimizer, loss, micro,
                step=turn, weight=batch.weight, clip=training.clip,
            ),
        )  # fmt: skip

    return step
