"""Training on prompts with answers: the loss counts answer tokens only, and weighs each alike.

An example is `{"input_ids": the prompt and the answer without its last token, "answer": the
answer}`, which is how lm-eval feeds a pair to score it; of several turns "answer" is all from the first
answer on, IGNORED where it is asked. Batches are padded on the left, so every
answer ends in the last column and the vocabulary is only multiplied out for the answers' columns: all at
once, or of long answers in chunks (`chunks`).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rankbench.tasks.base import Batch, Head, Task
from rankbench.tasks.causal.chunks import IGNORED as IGNORED
from rankbench.tasks.causal.chunks import LARGE, read, summed_loss
from rankbench.tasks.causal.unformed import Output, output_of, reading
from rankbench.tasks.scoring import evaluating, on


def collate_left(examples: Sequence[dict[str, Any]]) -> Batch:
    """input_ids, attention_mask, position_ids (batch, longest); labels (batch, longest answer)."""
    pad = partial(pad_sequence, batch_first=True, padding_side="left")
    rows, answers = ([torch.tensor(each[key]) for each in examples] for key in ("input_ids", "answer"))
    mask = pad([torch.ones_like(row) for row in rows])
    positions, labels = (mask.cumsum(-1) - 1).clamp(min=0), pad(answers, padding_value=IGNORED)
    inputs = {"input_ids": pad(rows), "attention_mask": mask, "position_ids": positions, "labels": labels}
    return Batch(inputs, int((labels != IGNORED).sum()))


def answer_loss(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Cross-entropy summed over answer tokens."""
    found: Tensor = _of_logits(model, inputs, summed_loss)
    return found


def _of_logits(model: nn.Module, inputs: dict[str, Tensor], wanted: Callable[[Tensor, Tensor], Any]) -> Any:
    """`wanted(logits, labels)` of the answers' columns; of many, the logits are `Unformed`."""
    labels = inputs["labels"]
    if (output := _of_many(model, labels)) is None:
        return wanted(answer_logits(model, inputs, labels.shape[1]), labels)
    with reading(output, lambda logits: wanted(logits, labels)):
        return answer_logits(model, inputs, labels.shape[1])


def _of_many(model: nn.Module, labels: Tensor) -> Output | None:
    """What makes the logits where they are too many to be formed whole, and need not be."""
    output = output_of(model)
    return output if output and labels.numel() * output.layer.out_features > LARGE else None


def answer_logits(model: nn.Module, inputs: dict[str, Tensor], columns: int) -> Any:
    """(batch, columns, vocabulary) of the last ones, each predicting its label, or what stands for them."""
    features = {key: tensor for key, tensor in inputs.items() if key != "labels"}
    return model(**features, logits_to_keep=columns, use_cache=False).logits


class CausalTask(Task, ABC):
    """Shared by every task whose answers are predicted token by token."""

    head = Head("causal")

    def collate(self, examples: Sequence[dict[str, Any]]) -> Batch:
        """Padded on the left; the weight counts answer tokens."""
        return collate_left(examples)

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Cross-entropy summed over answer tokens."""
        return answer_loss(model, inputs)

    def answers(
        self, model: nn.Module, examples: Sequence[dict[str, Any]], batch: int
    ) -> tuple[list[float], list[bool]]:
        """Each answer's log-likelihood, and whether every token of it is the model's first choice."""
        likelihoods: list[float] = []
        greedy: list[bool] = []
        with evaluating(model) as device:
            for start in range(0, len(examples), batch):
                inputs = on(device, self.collate(examples[start : start + batch]).inputs)
                losses, first = _of_logits(model, inputs, read)
                likelihoods += (-losses.sum(-1)).tolist()
                greedy += (first | (inputs["labels"] == IGNORED)).all(-1).tolist()
        return likelihoods, greedy

    def last_logits(self, model: nn.Module, examples: Sequence[dict[str, Any]]) -> Tensor:
        """(items, vocabulary): what predicts the last token of each answer."""
        with evaluating(model) as device:
            inputs = on(device, self.collate(examples).inputs)
            labels = inputs["labels"]
            found: Tensor = answer_logits(model, inputs, 1 if _of_many(model, labels) else labels.shape[1])
            return found[:, -1].float().cpu()
