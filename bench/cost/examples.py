"""What both loops train on and how: the same random examples, as the Trainer and as our tasks take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import default_data_collator

from rankbench.bench.seeds import generator
from rankbench.bench.suite.costs import WARM_UP, Loop
from rankbench.tasks import Batch
from rankbench.tasks.causal.loss import IGNORED, answer_loss, collate_left

Example = dict[str, Any]


def steps(settings: Loop) -> int:
    """Of a whole measurement, warm-up included."""
    return WARM_UP + settings.rounds


def asked_tokens(settings: Loop) -> int:
    """How many tokens at the end of a causal example are learned."""
    return settings.answer or settings.length - 1


def examples(settings: Loop) -> list[Example]:
    """Random tokens, as the Trainer takes them: labels are -100 where nothing is asked."""
    count = steps(settings) * settings.batch
    draw = generator(0, "overhead")
    rows = torch.randint(5, 100, (count, settings.length), generator=draw).tolist()
    classes = torch.randint(0, 2, (count,), generator=draw).tolist()
    mask = [1] * settings.length
    if settings.head == "sequence":
        return [
            {"input_ids": row, "attention_mask": mask, "labels": label}
            for row, label in zip(rows, classes, strict=True)
        ]
    unasked = settings.length - asked_tokens(settings)
    return [
        {"input_ids": row, "attention_mask": mask, "labels": [IGNORED] * unasked + row[unasked:]}
        for row in rows
    ]


@dataclass(frozen=True)
class LoopWork:
    """How our tasks batch the same examples, and their summed loss."""

    settings: Loop
    all_logits: bool

    def examples(self) -> list[Example]:
        """In the form of our tasks."""
        rows, asked = examples(self.settings), asked_tokens(self.settings)
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
            return answer_loss(model, inputs)
        features = {key: tensor for key, tensor in inputs.items() if key != "labels"}
        return functional.cross_entropy(model(**features).logits, inputs["labels"], reduction="sum")
