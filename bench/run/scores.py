"""What a model scores, and whether merging changed what it answers."""

from __future__ import annotations

import math

from torch import Tensor, nn

from rankbench import tasks
from rankbench.bench.records import MergeParity
from rankbench.bench.run.failures import RunFailed
from rankbench.tasks.scoring import evaluating


def evaluate(task: tasks.Task, model: nn.Module, split: tasks.Split, step: int) -> tasks.Score:
    """The score after a step. Raises RunFailed where a metric is not finite."""
    score = task.score(model, split)
    for name, value in score.metrics.items():
        if not math.isfinite(value):
            raise RunFailed(f"{name} on the {split} split is {value}", step)
    return score


def logits(task: tasks.Task, model: nn.Module) -> Tensor:
    """Outputs (items, outputs) on the items that are kept for comparing two states of a model."""
    with evaluating(model):
        return task.logits(model)


def merge_parity(before: Tensor, after: Tensor) -> MergeParity:
    """Outputs (items, outputs) of the same items unmerged and merged."""
    return MergeParity(
        largest_logit_difference=float((before - after).abs().max()),
        top1_flips=int((before.argmax(-1) != after.argmax(-1)).sum()),
        items=len(before),
    )
