"""Our whole loop beside Hugging Face's Trainer with PEFT LoRA: tokenised data in, steps out.

Both get the same examples in the same order and batches, all of one length, the same rank, AdamW, schedule
and clipping; neither evaluates, logs or saves. The Trainer runs as its users run it: one `train()`, which
hands over at the end of every step. Contenders take turns, each in a fresh process of its own, as what a loop
asks of the memory allocator holds for the whole process. A causal example's last token predicts nothing: our
tasks do not feed it, the Trainer does. Where a model has dropout, ours is also measured with PyTorch's
(`bench.cpu.dropout`): what is the loop's and what is the dropout's can be told apart.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from rankbench import adapters
from rankbench.bench import models
from rankbench.bench.cost.examples import LoopWork, examples, steps
from rankbench.bench.cost.rounds import Ask, Measured, apart, interleave, peak_memory
from rankbench.bench.cpu.dropout import has_dropout, use_cheap_dropout
from rankbench.bench.models.loading import quiet
from rankbench.bench.records.costs import ALL_LOGITS, OURS, STOCK, TRAINER
from rankbench.bench.run.step import make_accelerator, now, timed
from rankbench.bench.run.train import SharedLoop, Work
from rankbench.bench.seeds import generator
from rankbench.bench.suite import Training
from rankbench.bench.suite.costs import Loop
from rankbench.tasks import Head

ADAPTER = "lora"
RATE = 1e-4
CLIP = 1.0
WARM_UP_STEPS = 1
"""Of the learning rate."""


def adapter_names(_: Loop) -> list[str]:
    """Those that are measured."""
    return [ADAPTER]


def check(settings: Loop) -> None:
    """Find what would stop a measurement before anything runs. Raises the packages' own errors."""
    models.fetch(settings.model)
    adapter = adapters.create(ADAPTER, rank=settings.rank, alpha=settings.alpha)
    adapter.attach(models.empty_model(settings.model, Head(settings.head, 2)), settings.targets)


def contenders(settings: Loop) -> list[str]:
    """Our loop as it ships, then without what is no part of a loop: the cheap dropout, and with short
    answers the logits that are left out; and the Trainer."""
    drops = has_dropout(models.empty_model(settings.model, Head(settings.head, 2)))
    return [OURS, *([STOCK] if drops else []), *([ALL_LOGITS] if settings.answer else []), TRAINER]


def measure(settings: Loop, process: int, ask: Ask) -> Measured:
    """Time, memory and size of every contender, once."""
    labels = contenders(settings)
    with ExitStack() as processes:
        turns = {
            label: processes.enter_context(apart(take_turns, settings, label, anew=True)) for label in labels
        }
        sizes = {label: turn() for label, turn in turns.items()}
        seconds = interleave(turns, settings.rounds, ask, process)
    peaks = peak_memory(settings, labels, rehearse, ask)
    return Measured(seconds, parameters=sizes).with_peaks(peaks)


def take_turns(channel: Connection, settings: Loop, label: str) -> None:
    """Send the adapter's size, then the seconds of a step for every turn received."""
    if label != TRAINER:
        loop = OurLoop(settings, label)
        channel.send(loop.adapter.parameter_counts()["adapter"])
        while True:
            channel.send(loop.turn(channel.recv()))
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
    loop = OurLoop(few, label)
    return lambda: [loop.turn(turn) for turn in range(steps(few))]


class OurLoop(SharedLoop):
    """The shared loop from batch to batch, one step at a call, the examples in the order they lie in."""

    def __init__(self, settings: Loop, label: str) -> None:
        accelerator, count = make_accelerator(), steps(settings)
        model = models.load_headed(settings.model, Head(settings.head, 2), seed=0)
        if label != STOCK:
            use_cheap_dropout(model)
        adapter = adapters.create(ADAPTER, rank=settings.rank, alpha=settings.alpha)
        adapter.attach(model, settings.targets, generator=generator(0, "adapter"))
        work = LoopWork(settings, all_logits=label == ALL_LOGITS)
        data = work.examples()
        training = Training(
            steps=count,
            batch_size=settings.batch,
            learning_rate=RATE,
            warmup=WARM_UP_STEPS / count,
            clip=CLIP,
        )
        lengths = [settings.length] * len(data)
        super().__init__(
            accelerator,
            model.to(accelerator.device),
            adapter,
            Work(data, lengths, work.collate, work.loss),
            training,
            seed=0,
        )
        self.order = [list(range(at, at + settings.batch)) for at in range(0, len(data), settings.batch)]
        self.losses: list[float] = []

    def turn(self, step: int) -> float:
        """One step with its data; returns its seconds."""
        return timed(
            self.accelerator.device,
            lambda: self.losses.append(self.step(step, *self.batches_of(step))["loss"]),
        )


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
            max_steps=steps(settings),
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
        arguments._n_gpu = min(arguments.n_gpu, 1)  # of several it would give each a batch, at every step
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
