"""What a step costs: every adapter on the same batch of random tokens, beside the same model frozen.

The floor is the frozen model: forward and backward to the embedding output, no parameter gradient,
no optimizer. It has the shared loop's dropout, as every contender has; a model with dropout is also
timed as transformers builds it.

Contenders take turns, round by round, and show their memory in processes of their own; of a model that is too
large for that, one after the other is built, measured and let go of.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from rankbench.adapters import Adapter
from rankbench.bench import models
from rankbench.bench.cost.rounds import (
    Ask,
    Measured,
    Step,
    in_fresh_process,
    interleave,
    peak_memory,
    peak_of,
    shuffled,
)
from rankbench.bench.cpu.dropout import has_dropout, use_cheap_dropout
from rankbench.bench.records.costs import FLOOR, STOCK_FLOOR
from rankbench.bench.run.step import make_accelerator, make_optimizer, optimizer_step, timed
from rankbench.bench.seeds import generator
from rankbench.bench.suite import Training, make_adapter
from rankbench.bench.suite.costs import WARM_UP, Overhead
from rankbench.tasks import Batch, Head

RATE = 1e-4


@dataclass(frozen=True)
class RandomTokens:
    """A task without data: (batch, length) ids, nothing to pad, and the loss over all outputs."""

    causal: bool
    batch: int
    length: int

    def draw(self) -> Batch:
        """Ids between 5 and 99, the same for each contender."""
        ids = torch.randint(5, 100, (self.batch, self.length), generator=generator(0, "overhead"))
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


def adapter_names(settings: Overhead) -> list[str]:
    """Those that are measured."""
    return [spec.name for spec in settings.adapters.values()]


def check(settings: Overhead) -> None:
    """Find what would stop a measurement before anything runs. Raises the packages' own errors."""
    models.fetch(settings.model)
    for label in settings.adapters:
        model = models.empty_model(settings.model, Head(settings.head, 2))
        _adapter(settings, label).attach(model, settings.targets)


def measure(settings: Overhead, process: int, ask: Ask) -> Measured:
    """Time, memory and size of every contender, once."""
    if settings.alone:
        return in_fresh_process(one_at_a_time, settings, process, ask)
    timed_apart = in_fresh_process(time_steps, settings, process, ask)
    return replace(timed_apart, peaks=peak_memory(settings, contenders(settings), rehearse, ask))


def time_steps(settings: Overhead, process: int, ask: Ask) -> Measured:
    """Time and size of every contender, in this process."""
    labels = contenders(settings)
    accelerator = make_accelerator(settings.precision)
    # Who is built first lies elsewhere in memory: not always the same one.
    built = {label: _contender(settings, label, accelerator) for label in shuffled(labels, f"{process}")}
    seconds = interleave({label: built[label][0] for label in labels}, settings.rounds, ask, process)
    return Measured(seconds, parameters={label: built[label][1] for label in labels})


def one_at_a_time(settings: Overhead, process: int, ask: Ask) -> Measured:
    """Time, memory and size of every contender, in this process, which never holds two of them."""
    found = {label: _alone(settings, label, ask) for label in shuffled(contenders(settings), f"{process}")}
    measured = Measured()
    for label in contenders(settings):
        measured.seconds[label], measured.peaks[label], measured.parameters[label] = found[label]
    return measured


def _alone(settings: Overhead, label: str, ask: Ask) -> tuple[list[float], float, int]:
    gc.collect()  # what went before hangs on itself: its wrapped `forward`
    accelerator = make_accelerator(settings.precision)
    step, size = _contender(settings, label, accelerator)

    def rounds() -> list[float]:
        return interleave({label: step}, settings.rounds, lambda doing: ask(f"{label}, {doing}"))[label]

    seconds, peak = peak_of(rounds)
    accelerator.free_memory()
    return seconds, peak, size


def contenders(settings: Overhead) -> list[str]:
    """The floor (of a model with dropout, also as transformers builds it), and the adapters."""
    drops = has_dropout(models.empty_model(settings.model, Head(settings.head, 2)))
    return [FLOOR, *([STOCK_FLOOR] if drops else []), *settings.adapters]


def rehearse(settings: Overhead, label: str) -> Callable[[], object]:
    """A contender's first steps, for its peak memory."""
    step, _ = _contender(settings, label, make_accelerator(settings.precision))
    return lambda: [step(turn) for turn in range(WARM_UP + 1)]


def _contender(settings: Overhead, label: str, accelerator: Accelerator) -> tuple[Step, int]:
    """A function that does one synchronised step and returns its seconds, and the adapter's size."""
    head = Head(settings.head, 2)
    model = models.load_headed(settings.model, head, seed=0)
    tokens = RandomTokens(head.kind == "causal", settings.batch, settings.length)
    batch = tokens.draw()
    if label != STOCK_FLOOR:
        use_cheap_dropout(model)
    if label in (FLOOR, STOCK_FLOOR):
        device = accelerator.device
        model.requires_grad_(False).to(device).train()
        inputs = batch.to(device).inputs
        return lambda _: timed(device, lambda: _floor_step(accelerator, model, inputs)), 0
    adapter = _adapter(settings, label)
    adapter.attach(model, settings.targets, generator=generator(0, "adapter"))
    training = Training(steps=1, batch_size=settings.batch, learning_rate=RATE)
    step = training_step(model, adapter, training, batch, tokens.loss, accelerator)
    return step, adapter.parameter_counts()["adapter"]


def _adapter(settings: Overhead, label: str) -> Adapter:
    return make_adapter(settings.adapters[label], learning_rate=RATE, steps=settings.steps_of_a_run)


def _floor_step(accelerator: Accelerator, model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    embeddings = model.get_input_embeddings()(inputs["input_ids"]).requires_grad_(True)
    with accelerator.autocast():
        outputs = model(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"])
    logits = outputs.logits.flatten(0, -2).float()
    functional.cross_entropy(logits, logits.new_zeros(len(logits)).long()).backward()
