"""What a run's model is given at once, as far as memory depends on it: how many examples, of what length."""

from __future__ import annotations

from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rankbench import tasks
from rankbench.bench.seeds import batches
from rankbench.bench.suite import RunSpec
from rankbench.tasks import Batch
from rankbench.tasks.causal.instruct import InstructTask
from rankbench.tasks.causal.lm_eval import LmEvalTask
from rankbench.tasks.causal.loss import CausalTask
from rankbench.tasks.scoring import evaluating, logits

SHORTEST = 2
"""Tokens, where a task says nothing of them: its examples have none."""


class Longest(NamedTuple):
    """Tokens of the longest example, and of the longest answer that is learned."""

    tokens: int
    answer: int


def allowed(task: tasks.Task, config: Any) -> Longest:
    """By what the task and a model's configuration allow, if it has one: the data are not looked at."""
    tokens = task.max_length or SHORTEST
    tokens = min(tokens, getattr(config and config.get_text_config(), "max_position_embeddings", tokens))
    return Longest(tokens, tokens)


def given(spec: RunSpec, prepared: tasks.Prepared) -> Longest:
    """Of the examples that the run trains on: those of its steps, not all."""
    count = spec.training.steps * spec.training.accumulation
    drawn = batches(prepared.lengths, spec.training.batch_size, count, spec.seed)
    read = {i for indices in drawn for i in indices}
    answers = (len(prepared.train[i].get("answer", ())) for i in read)
    return Longest(max(prepared.lengths[i] for i in read), max(answers, default=0))


def batch(task: tasks.Task, rows: int, longest: Longest) -> Batch:
    """Of so many of the longest examples."""
    if isinstance(task, CausalTask):
        return task.collate([{"input_ids": [1] * longest.tokens, "answer": [1] * longest.answer}] * rows)
    if task.head.kind == "own":
        known = task.prepare(None).train
        return task.collate([known[i % len(known)] for i in range(rows)])
    ids = torch.ones(rows, longest.tokens, dtype=torch.long)
    return Batch({"input_ids": ids, "attention_mask": ids}, rows)


def like(given: Batch, device: str) -> Batch:
    """The same shapes, made anew on a device."""
    made = {
        key: torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        for key, tensor in given.inputs.items()
    }
    return given._replace(inputs=made)


def loss(task: tasks.Task, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """The task's; of a head with a few outputs a text, which take no room, their sum."""
    return logits(model, inputs).sum() if task.head.kind == "sequence" else task.loss(model, inputs)


def score(task: tasks.Task, model: nn.Module, given: Batch) -> None:
    """Read a batch of the longest items as the task does to score: lm-eval asks for the whole vocabulary
    after every token of a choice, and has what is written read its own past."""
    if isinstance(task, CausalTask):
        with patch.object(task, "collate", return_value=given):
            task.answers(model, [given.inputs], 1)
    else:
        with evaluating(model):
            loss(task, model, given.inputs)
    if not (chooses(task) or writes(task)):
        return
    ids = given.inputs["input_ids"]
    with evaluating(model):
        if chooses(task):
            likely: Tensor | None = None
            for _ in range(2):  # while the next batch is read, the last one's answers are held
                likely = F.log_softmax(model(ids).logits, dim=-1)
            del likely
        if writes(task):
            past = model(ids, use_cache=True, logits_to_keep=1).past_key_values
            model(ids[:, :1], use_cache=True, past_key_values=past)


def scored_together(task: tasks.Task) -> int:
    """Examples at once."""
    sizes = task.options()
    together = sizes.get("scoring_batch") or max(sizes.get(split) or 1 for split in ("selection", "test"))
    return int(together)


def chooses(task: tasks.Task) -> bool:
    """Whether lm-eval compares how likely answers are that it gives."""
    if isinstance(task, LmEvalTask):
        return not task.entry.generation
    return isinstance(task, InstructTask) and any(not generates for generates in _generating(task))


def writes(task: tasks.Task) -> bool:
    """Whether the model writes answers of its own."""
    if isinstance(task, LmEvalTask):
        return task.entry.generation
    return isinstance(task, InstructTask) and any(_generating(task))


def _generating(task: InstructTask) -> list[bool]:
    """Of each lm-eval task that it is scored by."""
    members = [member for each in task.scores.asked for member in each.group.members]
    return [member.config.get("output_type") == "generate_until" for member in members]
