"""What a step costs: every adapter on the same batch of random tokens, beside the same model frozen.

The floor is the frozen model: forward and backward to the embedding output, no parameter gradient,
no optimizer. It has the shared loop's dropout, as every contender has; a model with dropout is also
timed as transformers builds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from rankbench.adapters import Adapter
from rankbench.bench import models
from rankbench.bench.cost.rounds import Step
from rankbench.bench.cpu.dropout import has_dropout, use_cheap_dropout
from rankbench.bench.records.costs import FLOOR, STOCK_FLOOR
from rankbench.bench.run.step import make_accelerator, make_optimizer, optimizer_step, timed
from rankbench.bench.seeds import generator
from rankbench.bench.suite import Training, make_adapter
from rankbench.bench.suite.costs import WARM_UP, Overhead
from rankbench.tasks import Batch, Head
from rankbench.tasks.text.ends import ended

RATE = 1e-4


@dataclass(frozen=True)
class RandomTokens:
    """A task without data: (batch, length) ids, nothing to pad, and the loss over all outputs."""

    causal: bool
    batch: int
    length: int

    def draw(self, config: Any) -> Batch:
        """Ids between 5 and 99, the same for each contender, as a model of this configuration takes them."""
        ids = torch.randint(5, 100, (self.batch, self.length), generator=generator(0, "overhead"))
        ids = ended(ids, config)
        return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, self.batch)

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Summed cross-entropy against class 0, or the tokens themselves for a causal model."""
        logits = model(**inputs).logits.flatten(0, -2)
        wanted = inputs["input_ids"].flatten() if self.causal else logits.new_zeros(len(logits)).long()
        return functional.cross_entropy(logits, wanted, reduction="sum")


def training_step(
    model: nn.Module,
    adapter: Adapter,
    training: Training,
    batch: Batch,
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    accelerator: Accelerator,
) -> Step:
    """One synchronised step of the shared loop on this batch; returns its seconds."""
    wrapped, optimizer = accelerator.prepare(model.train(), make_optimizer(adapter, training))
    micro = [batch.to(accelerator.device)]
    return lambda turn: timed(
        accelerator.device,
        lambda: optimizer_step(
            accelerator, wrapped, adapter, optimizer, loss, micro,
            step=turn, weight=batch.weight, clip=training.clip,
        ),
    )  # fmt: skip


def contenders(settings: Overhead) -> list[str]:
    """The floor (of a model with dropout, also as transformers builds it), and the adapters."""
    drops = has_dropout(models.empty_model(settings.model, Head(settings.head, 2)))
    return [FLOOR, *([STOCK_FLOOR] if drops else []), *settings.adapters]


class Contender(NamedTuple):
    """What is on the model: an adapter, or for a floor nothing, and so the model itself; a function that does
    one synchronised step and returns its seconds; and the number of the adapter's parameters."""

    on: Adapter | nn.Module
    step: Step
    size: int


def rehearse(settings: Overhead, label: str) -> Callable[[], object]:
    """A contender's first steps, for its peak memory."""
    step = built(settings, label, make_accelerator(settings.precision)).step
    return lambda: [step(turn) for turn in range(WARM_UP + 1)]


def built(settings: Overhead, label: str, accelerator: Accelerator) -> Contender:
    """A contender on a model of its own."""
    model = models.load_headed(settings.model, Head(settings.head, 2), seed=0)
    return attached(settings, label, accelerator, model)


def attached(settings: Overhead, label: str, accelerator: Accelerator, model: PreTrainedModel) -> Contender:
    """A contender on this model, which is bare and may lie anywhere."""
    tokens = RandomTokens(settings.head == "causal", settings.batch, settings.length)
    batch = tokens.draw(model.config)
    if label != STOCK_FLOOR:
        use_cheap_dropout(model)
    if label in (FLOOR, STOCK_FLOOR):
        device = accelerator.device
        model.requires_grad_(False).to(device).train()
        inputs = batch.to(device).inputs
        return Contender(model, lambda _: timed(device, lambda: _floor_step(accelerator, model, inputs)), 0)
    adapter = adapter_of(settings, label)
    adapter.attach(model, settings.targets, generator=generator(0, "adapter"))
    training = Training(steps=1, batch_size=settings.batch, learning_rate=RATE)
    step = training_step(model, adapter, training, batch, tokens.loss, accelerator)
    return Contender(adapter, step, adapter.parameter_counts()["adapter"])


def adapter_of(settings: Overhead, label: str) -> Adapter:
    """As its contender has it."""
    return make_adapter(settings.adapters[label], learning_rate=RATE, steps=settings.steps_of_a_run)


def _floor_step(accelerator: Accelerator, model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    embeddings = model.get_input_embeddings()(inputs["input_ids"]).requires_grad_(True)
    with accelerator.autocast():
        outputs = model(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"])
    logits = outputs.logits.flatten(0, -2).float()
    functional.cross_entropy(logits, logits.new_zeros(len(logits)).long()).backward()
