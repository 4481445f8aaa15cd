"""Training on prompts with answers: the loss counts answer tokens only, and weighs each alike.

An example is `{"input_ids": the prompt and the answer without its last token, "answer": the
answer}`, which is how lm-eval feeds a pair to score it; of several turns "answer" is all from the first
answer on, IGNORED where it is asked. Batches are padded on the left, so every
answer ends in the last column and the vocabulary is only multiplied out for the answers' columns.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from rankbench.tasks.base import Batch, Head, Task
from rankbench.tasks.scoring import evaluating, logits, on

IGNORED = -100


def collate_left(examples: Sequence[dict[str, Any]]) -> Batch:
    """input_ids, attention_mask, position_ids (batch, longest); labels (batch, longest answer)."""
    pad = partial(pad_sequence, batch_first=True, padding_side="left")
    rows, answers = ([torch.tensor(each[key]) for each in examples] for key in ("input_ids", "answer"))
    mask = pad([torch.ones_like(row) for row in rows])
    positions, labels = (mask.cumsum(-1) - 1).clamp(min=0), pad(answers, padding_value=IGNORED)
    inputs = {"input_ids": pad(rows), "attention_mask": mask, "position_ids": positions, "labels": labels}
    return Batch(inputs, int((labels != IGNORED).sum()))


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
