"""What a model scores, on the items' loss too, and whether merging changed what it answers."""

from __future__ import annotations

import math

from torch import Tensor, nn

from rankbench import tasks
from rankbench.bench.records import MergeParity
from rankbench.bench.records.losses import ItemLosses, item_losses
from rankbench.bench.run.failures import RunFailed
from rankbench.tasks.scoring import evaluating, until


def evaluate(task: tasks.Task, model: nn.Module, split: tasks.Split, step: int) -> tasks.Score:
    """The score after a step, with the items' mean loss. Raises RunFailed where a metric is
    not finite, TaskError where it takes longer than the task's deadline."""
    with until(task.deadline, model, task.name):
        score = task.score(model, split)
    if found := held_out(task, score):
        score.metrics.setdefault(found.metric, float(found.values.mean()))
    for name, value in score.metrics.items():
        if not math.isfinite(value):
            raise RunFailed(f"{name} on the {split} split is {value}", step)
    return score


def held_out(task: tasks.Task, score: tasks.Score) -> ItemLosses | None:
    """The loss of each item; None where the main metric is their mean, or the answers tell no loss."""
    import pyarrow as pa  # what trains, or measures a step, goes without

    found = item_losses(pa.Table.from_pandas(score.predictions, preserve_index=False))
    return None if found is None or found.metric == task.metric else found


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
