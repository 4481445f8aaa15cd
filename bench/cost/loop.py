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

import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator, get_scheduler
from transformers.trainer_callback import PrinterCallback

from rankbench import adapters
from rankbench.bench import models
from rankbench.bench.cost.rounds import Ask, Measured, apart, interleave, now, peak_memory, timed
from rankbench.bench.cpu.dropout import has_dropout, use_cheap_dropout
from rankbench.bench.models.loading import quiet
from rankbench.bench.records.costs import ALL_LOGITS, OURS, STOCK, TRAINER
from rankbench.bench.run.seeds import generator
from rankbench.bench.run.step import make_accelerator, make_optimizer, optimizer_step
from rankbench.bench.suite import Training
from rankbench.bench.suite.costs import WARM_UP, Loop
from rankbench.tasks import Batch, Head
from rankbench.tasks.causal.loss import IGNORED, answer_logits, collate_left, cross_entropy

ADAPTER = "lora"
RATE = 1e-4
CLIP = 1.0
WARM_UP_STEPS = 1
"""Of the learning rate."""

Example = dict[str, Any]


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
        steps = {
            label: processes.enter_context(apart(take_turns, settings, label, anew=True)) for label in labels
        }
        sizes = {label: step() for label, step in steps.items()}
        seconds = interleave(steps, settings.rounds, ask, process)
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
    return lambda: [loop.step(turn) for turn in range(_steps(few))]


def examples(settings: Loop) -> list[Example]:
    """Random tokens, as the Trainer takes them: labels are -100 where nothing is asked."""
    count = _steps(settings) * settings.batch
    draw = generator(0, "overhead")
    rows = torch.randint(5, 100, (count, settings.length), generator=draw).tolist()
    classes = torch.randint(0, 2, (count,), generator=draw).tolist()
    mask = [1] * settings.length
    if settings.head == "sequence":
        return [
            {"input_ids": row, "attention_mask": mask, "labels": label}
            for row, label in zip(rows, classes, strict=True)
        ]
    asked = _asked(settings)
    return [
        {
            "input_ids": row,
            "attention_mask": mask,
            "labels": [IGNORED] * (len(row) - asked) + row[-asked:],
        }
        for row in rows
    ]


@dataclass(frozen=True)
class _Work:
    """How our tasks batch the same examples, and their summed loss."""

    settings: Loop
    all_logits: bool

    def examples(self) -> list[Example]:
        """In the form of our tasks."""
        rows, asked = examples(self.settings), _asked(self.settings)
        if self.settings.head == "sequence":
            return rows
        return [{"input_ids": row["input_ids"][:-1], "answer": row["input_ids"][-asked:]} for row in rows]

    def collate(self, chosen: Sequence[Example]) -> Batch:
        """(batch, length), nothing to pad."""
        if self.settings.head == "sequence":
            return Batch(default_data_collator(list(chosen)), len(chosen))
        batch = collate_left(chosen)
        if not self.all_logits:
            return batch
        labels, fed = batch.inputs["labels"], batch.inputs["input_ids"].shape[1]
        widened = functional.pad(labels, (fed - labels.shape[1], 0), value=IGNORED)
        return batch._replace(inputs=batch.inputs | {"labels": widened})

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Cross-entropy summed over examples, or over answer tokens."""
        if self.settings.head == "causal":
            return cross_entropy(answer_logits(model, inputs), inputs["labels"]).sum()
        features = {key: tensor for key, tensor in inputs.items() if key != "labels"}
        return functional.cross_entropy(model(**features).logits, inputs["labels"], reduction="sum")


class OurLoop:
    """What `bench.run.train.train` does from batch to batch, one step at a call."""

    def __init__(self, settings: Loop, label: str, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.work = _Work(settings, all_logits=label == ALL_LOGITS)
        self.examples = self.work.examples()
        self.adapter = adapters.create(ADAPTER, rank=settings.rank, alpha=settings.alpha)
        model = models.load_headed(settings.model, Head(settings.head, 2), seed=0)
        if label != STOCK:
            use_cheap_dropout(model)
        self.adapter.attach(model, settings.targets, generator=generator(0, "adapter"))
        steps = _steps(settings)
        self.training = Training(
            steps=steps,
            batch_size=settings.batch,
            learning_rate=RATE,
            warmup=WARM_UP_STEPS / steps,
            clip=CLIP,
        )
        inner = make_optimizer(model.to(accelerator.device), self.training)
        self.model, self.optimizer = accelerator.prepare(model, inner)
        self.scheduler = get_scheduler(self.training.schedule, inner, WARM_UP_STEPS, steps)
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


class _HandOver(TrainerCallback):
    """Stops the clock at the end of a step, and starts it again when the others are done."""

    def __init__(self, others: Callable[[float], None]) -> None:
        self.others = others

    def on_train_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """The clock starts."""
        self.started = now(args.device)

    def on_step_end(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """The others' turn."""
        self.others(now(args.device) - self.started)
        self.started = now(args.device)


class TrainerLoop:
    """Trainer and PEFT LoRA with our loop's recipe; it writes nothing."""

    def __init__(self, settings: Loop) -> None:
        model = models.load_headed(settings.model, Head(settings.head, 2), seed=0)
        lora = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=settings.targets,
            task_type="SEQ_CLS" if settings.head == "sequence" else "CAUSAL_LM",
        )
        self.folder = tempfile.TemporaryDirectory()
        arguments = TrainingArguments(
            output_dir=self.folder.name,
            per_device_train_batch_size=settings.batch,
            max_steps=_steps(settings),
            train_sampling_strategy="sequential",
            learning_rate=RATE,
            lr_scheduler_type="linear",
            warmup_steps=WARM_UP_STEPS,
            optim="adamw_torch_fused",
            weight_decay=0.0,
            max_grad_norm=CLIP,
            logging_strategy="no",
            save_strategy="no",
            eval_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        with warnings.catch_warnings():
            # PEFT asks transformers for a name that is to be replaced.
            warnings.simplefilter("ignore", FutureWarning)
            self.model = get_peft_model(model, lora)
            self.trainer = Trainer(self.model, arguments, train_dataset=examples(settings))
        self.trainer.remove_callback(PrinterCallback)

    def run(self, others: Callable[[float], None]) -> None:
        """A whole `train()`; after each step `others` gets its seconds."""
        self.trainer.add_callback(_HandOver(others))
        with quiet(), self.folder:
            self.trainer.train()

    def size(self) -> int:
        """Parameters of the adapter, without the head."""
        return sum(p.numel() for name, p in self.model.named_parameters() if ".lora_" in name)


def _steps(settings: Loop) -> int:
    return WARM_UP + settings.rounds


def _asked(settings: Loop) -> int:
    return settings.answer or settings.length - 1
