"""What a trained model scores, merged, and whether merging changed what it answers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from rankbench import tasks
from rankbench.adapters import Adapter
from rankbench.bench.records import MergeParity
from rankbench.bench.run.failures import RunFailed
from rankbench.bench.run.start import attached
from rankbench.bench.suite import RunSpec
from rankbench.tasks.scoring import evaluating


def evaluate(task: tasks.Task, model: nn.Module, split: tasks.Split, step: int) -> tasks.Score:
    """The score after a step. Raises RunFailed where a metric is not finite."""
    score = task.score(model, split)
    for name, value in score.metrics.items():
        if not math.isfinite(value):
            raise RunFailed(f"{name} on the {split} split is {value}", step)
    return score


def merge_and_score(
    task: tasks.Task, model: nn.Module, adapter: Adapter, step: int
) -> tuple[tasks.Score, MergeParity]:
    """The test score of the merged model, which spends this one."""
    before = logits(task, model)
    merged = adapter.merge(model)
    parity = merge_parity(before, logits(task, merged))
    return evaluate(task, merged, "test", step), parity


def score_state(spec: RunSpec, task: tasks.Task, best: dict[str, Any], device: torch.device) -> tasks.Score:
    """The test score of the best observed state, on a fresh model: merging spent the trained one."""
    model, adapter = attached(spec, task, device)
    adapter.load_state_dict(best["state"])
    return evaluate(task, adapter.merge(model), "test", best["step"])


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
