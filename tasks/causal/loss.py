"""Training on prompts with answers: the loss counts answer tokens only, and weighs each alike.

An example is `{"input_ids": the prompt and the answer without its last token, "answer": the
answer}`, which is how lm-eval feeds a pair to score it. Batches are padded on the left, so every
answer ends in the last column and the vocabulary is only multiplied out for the answers' columns.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rankbench.tasks.base import Batch, Head, Task
from rankbench.tasks.scoring import evaluating, logits, on

IGNORED = -100


def collate_left(examples: Sequence[dict[str, Any]]) -> Batch:
    """input_ids, attention_mask, position_ids (batch, longest); labels (batch, longest answer)."""
    longest = max(len(example["input_ids"]) for example in examples)
    answer = max(len(example["answer"]) for example in examples)
    ids = torch.zeros((len(examples), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full((len(examples), answer), IGNORED)
    for row, example in enumerate(examples):
        ids[row, longest - len(example["input_ids"]) :] = torch.tensor(example["input_ids"])
        mask[row, longest - len(example["input_ids"]) :] = 1
        labels[row, answer - len(example["answer"]) :] = torch.tensor(example["answer"])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "labels": labels}
    return Batch(inputs, sum(len(example["answer"]) for example in examples))


def answer_logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """(batch, longest answer, vocabulary) in float32, each column predicting its label."""
    return logits(model, inputs, logits_to_keep=inputs["labels"].shape[1], use_cache=False)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Per token (batch, longest answer), zero where there is no label."""
    losses = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )  # over rows: the (batch, vocabulary, length) layout is four times slower
    return losses.view_as(labels)


class CausalTask(Task, ABC):
    """Shared by every task whose answers are predicted token by token."""

    head = Head("causal")

    def collate(self, examples: Sequence[dict[str, Any]]) -> Batch:
        """Padded on the left; the weight counts answer tokens."""
        return collate_left(examples)

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Cross-entropy summed over answer tokens."""
        return cross_entropy(answer_logits(model, inputs), inputs["labels"]).sum()

    def answers(
        self, model: nn.Module, examples: Sequence[dict[str, Any]], batch: int
    ) -> tuple[list[float], list[bool]]:
        """Each answer's log-likelihood, and whether every token of it is the model's first choice."""
        likelihoods: list[float] = []
        greedy: list[bool] = []
        with evaluating(model) as device:
            for start in range(0, len(examples), batch):
                inputs = on(device, self.collate(examples[start : start + batch]).inputs)
                outputs, labels = answer_logits(model, inputs), inputs["labels"]
                likelihoods += (-cross_entropy(outputs, labels).sum(-1)).tolist()
                greedy += ((outputs.argmax(-1) == labels) | (labels == IGNORED)).all(-1).tolist()
        return likelihoods, greedy

    def last_logits(self, model: nn.Module, examples: Sequence[dict[str, Any]]) -> Tensor:
        """(items, vocabulary): what predicts the last token of each answer."""
        with evaluating(model) as device:
            return answer_logits(model, on(device, self.collate(examples).inputs))[:, -1].cpu()
