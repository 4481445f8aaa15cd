"""What a step costs: every adapter on the same batch, beside the same model frozen.

The floor is the frozen model: forward and backward to the embedding output, no parameter gradient,
no optimizer. It has the shared loop's dropout, as every contender has; a model with dropout is also
timed as transformers builds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from rankbench import adapters
from rankbench.bench import models
from rankbench.bench.cost.rounds import (
    Ask,
    Measured,
    Step,
    in_fresh_process,
    interleave,
    peak_memory,
    shuffled,
    timed,
)
from rankbench.bench.cost.tokens import RandomTokens, training_step
from rankbench.bench.cpu.dropout import has_dropout, use_cheap_dropout
from rankbench.bench.records.costs import FLOOR, STOCK_FLOOR
from rankbench.bench.run.seeds import generator
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.suite import Training, make_adapter
from rankbench.bench.suite.costs import WARM_UP, Overhead
from rankbench.tasks import Head

RATE = 1e-4


def check(settings: Overhead) -> None:
    """Find what would stop a measurement before anything runs. Raises the packages' own errors."""
    models.fetch(settings.model)
    for label in settings.adapters:
        model = models.empty_model(settings.model, Head(settings.head, 2))
        _adapter(settings, label).attach(model, settings.targets)


def measure_steps(settings: Overhead, process: int, ask: Ask) -> Measured:
    """Time, memory and size of every contender, once."""
    timed_apart = in_fresh_process(time_steps, settings, process, ask)
    return replace(timed_apart, peaks=peak_memory(settings, contenders(settings), rehearse, ask))


def time_steps(settings: Overhead, process: int, ask: Ask) -> Measured:
    """Time and size of every contender, in this process."""
    labels = contenders(settings)
    accelerator = make_accelerator()
    # Who is built first lies elsewhere in memory: not always the same one.
    order = shuffled(labels, f"{process}")
    built = {label: _contender(settings, label, accelerator) for label in order}
    seconds = interleave({label: built[label][0] for label in labels}, settings.rounds, ask, process)
    return Measured(seconds, parameters={label: built[label][1] for label in labels})


def contenders(settings: Overhead) -> list[str]:
    """The floor (of a model with dropout, also as transformers builds it), and the adapters."""
    stock = [STOCK_FLOOR] if has_dropout(models.empty_model(settings.model, Head(settings.head, 2))) else []
    return [FLOOR, *stock, *settings.adapters]


def rehearse(settings: Overhead, label: str) -> Callable[[], None]:
    """A contender's first steps, for its peak memory."""
    step, _ = _contender(settings, label, make_accelerator())

    def steps() -> None:
        for turn in range(WARM_UP + 1):
            step(turn)

    return steps


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
        inputs = {key: value.to(device) for key, value in batch.inputs.items()}
        return lambda _: timed(device, lambda: _floor_step(model, inputs)), 0
    adapter = _adapter(settings, label)
    adapter.attach(model, settings.targets, generator=generator(0, "adapter"))
    training = Training(steps=1, batch_size=settings.batch, learning_rate=RATE)
    step = training_step(model, adapter, training, batch, tokens.loss, accelerator)
    return step, adapter.parameter_counts()["adapter"]


def _adapter(settings: Overhead, label: str) -> adapters.Adapter:
    return make_adapter(settings.adapters[label], learning_rate=RATE, steps=settings.steps_of_a_run)


def _floor_step(model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    embeddings = model.get_input_embeddings()(inputs["input_ids"]).requires_grad_(True)
    logits = model(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"]).logits
    functional.cross_entropy(
        logits.flatten(0, -2), torch.zeros(logits[..., 0].numel(), dtype=torch.long, device=logits.device)
    ).backward()
