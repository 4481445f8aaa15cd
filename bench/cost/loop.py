"""Our whole loop beside Hugging Face's Trainer with PEFT LoRA: tokenised data in, steps out.

Both get the same examples in the same order and batches, all of one length, the same rank, AdamW,
schedule and clipping; neither evaluates, logs or saves. The Trainer runs as its users run it: one
`train()`, which hands over at the end of every step. Every contender has a fresh process of its own, as
what a loop asks of the memory allocator holds for the whole process; they take turns. A causal
example's last token predicts nothing: our tasks do not feed it, the Trainer does. Ours draws a model's
dropout cheaply (`bench.cpu.dropout`), which the Trainer does not: where there is any, ours is also measured
with PyTorch's, so that what is the loop's and what is the dropout's can be told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from accelerate import Accelerator
from transformers import get_scheduler

from rankbench import adapters
from rankbench.bench import models
from rankbench.bench.cost.examples import CLIP, RATE, WARM_UP_STEPS, LoopWork, steps
from rankbench.bench.cost.rounds import Ask, Measured, apart, interleave, peak_memory, timed
from rankbench.bench.cost.trainer import TrainerLoop
from rankbench.bench.cpu.dropout import has_dropout, use_cheap_dropout
from rankbench.bench.records.costs import ALL_LOGITS, OURS, STOCK, TRAINER
from rankbench.bench.run.seeds import generator
from rankbench.bench.run.step import make_accelerator, make_optimizer, optimizer_step
from rankbench.bench.suite import Training
from rankbench.bench.suite.costs import Loop
from rankbench.tasks import Head

ADAPTER = "lora"


def contenders(settings: Loop) -> list[str]:
    """Our loop as it ships, then without what is no part of a loop: the cheap dropout, and with short
    answers the logits that are left out; and the Trainer."""
    drops = has_dropout(models.empty_model(settings.model, Head(settings.head, 2)))
    return [OURS, *([STOCK] if drops else []), *([ALL_LOGITS] if settings.answer else []), TRAINER]


def check(settings: Loop) -> None:
    """Find what would stop a measurement before anything runs. Raises the packages' own errors."""
    models.fetch(settings.model)
    adapter = adapters.create(ADAPTER, rank=settings.rank, alpha=settings.alpha)
    adapter.attach(models.empty_model(settings.model, Head(settings.head, 2)), settings.targets)


def measure_loops(settings: Loop, process: int, ask: Ask) -> Measured:
    """Time, memory and size of every contender, once."""
    labels = contenders(settings)
    with ExitStack() as processes:
        turns = {
            label: processes.enter_context(apart(take_turns, settings, label, anew=True)) for label in labels
        }
        sizes = {label: step() for label, step in turns.items()}
        seconds = interleave(turns, settings.rounds, ask, process)
    return Measured(seconds, peak_memory(settings, labels, rehearse, ask), sizes)


def take_turns(channel: Connection, settings: Loop, label: str) -> None:
    """Send the adapter's size, then the seconds of a step for every turn received."""
    if label != TRAINER:
        loop = OurLoop(settings, label, make_accelerator())
        channel.send(loop.adapter.parameter_counts()["adapter"])
        while True:
            channel.send(loop.step(channel.recv()))
    trainer = TrainerLoop(settings)
    channel.send(trainer.size())

    def others(seconds: float) -> None:
        channel.send(seconds)
        channel.recv()

    channel.recv()
    trainer.run(others)


def rehearse(settings: Loop, label: str) -> Callable[[], Any]:
    """A contender's first steps, for its peak memory."""
    few = settings.model_copy(update={"rounds": 1})
    if label == TRAINER:
        trainer = TrainerLoop(few)
        return lambda: trainer.run(lambda _: None)
    loop = OurLoop(few, label, make_accelerator())
    return lambda: [loop.step(turn) for turn in range(steps(few))]


class OurLoop:
    """What `bench.run.train.train` does from batch to batch, one step at a call."""

    def __init__(self, settings: Loop, label: str, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.work = LoopWork(settings, all_logits=label == ALL_LOGITS)
        self.examples = self.work.examples()
        self.adapter = adapters.create(ADAPTER, rank=settings.rank, alpha=settings.alpha)
        model = models.load_headed(settings.model, Head(settings.head, 2), seed=0)
        if label != STOCK:
            use_cheap_dropout(model)
        self.adapter.attach(model, settings.targets, generator=generator(0, "adapter"))
        count = steps(settings)
        self.training = Training(
            steps=count,
            batch_size=settings.batch,
            learning_rate=RATE,
            warmup=WARM_UP_STEPS / count,
            clip=CLIP,
        )
        inner = make_optimizer(model.to(accelerator.device), self.training)
        self.model, self.optimizer = accelerator.prepare(model, inner)
        self.scheduler = get_scheduler(self.training.schedule, inner, WARM_UP_STEPS, count)
        self.losses: list[float] = []

    def step(self, turn: int) -> float:
        """One step with its data; returns its seconds."""
        return timed(self.accelerator.device, lambda: self._step(turn))

    def _step(self, turn: int) -> None:
        first = turn * self.training.batch_size
        batch = self.work.collate(self.examples[first : first + self.training.batch_size])
        device = self.accelerator.device
        moved = {key: value.to(device, non_blocking=True) for key, value in batch.inputs.items()}
        self.model.train()
        loss, penalty, norm = optimizer_step(
            self.accelerator, self.model, self.adapter, self.optimizer, self.work.loss,
            [batch._replace(inputs=moved)], step=turn, weight=batch.weight, clip=self.training.clip,
        )  # fmt: skip
        self.scheduler.step()
        self.losses.append(self.accelerator.reduce(loss).item())
        penalty.item(), norm.item()
