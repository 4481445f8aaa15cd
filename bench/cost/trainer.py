"""Hugging Face's Trainer with PEFT LoRA, as its users run it, a step at a time beside others."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from rankbench.bench import models
from rankbench.bench.cost.examples import CLIP, RATE, WARM_UP_STEPS, examples, steps
from rankbench.bench.cost.rounds import now
from rankbench.bench.models.loading import quiet
from rankbench.bench.suite.costs import Loop
from rankbench.tasks import Head


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
