"""In which order the examples of a run are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rankbench.bench.seeds import generator

BUCKET = 8
"""Batches whose examples are sorted by length together, so that little is padded."""


def batches(lengths: Sequence[int], batch_size: int, count: int, seed: int) -> list[list[int]]:
    """Example indices of `count` batches: epochs in random order, bucketed by length. What is left over
    for an epoch's last batch is left out, whatever its length, unless it is all there is. Depends on
    the seed alone."""
    order = generator(seed, "order")
    whole = len(lengths) // batch_size * batch_size or len(lengths)
    plan: list[list[int]] = []
    while len(plan) < count:
        indices = torch.randperm(len(lengths), generator=order).tolist()[:whole]
        buckets = [indices[i : i + BUCKET * batch_size] for i in range(0, whole, BUCKET * batch_size)]
        ordered = [index for bucket in buckets for index in sorted(bucket, key=lambda i: lengths[i])]
        epoch = [ordered[i : i + batch_size] for i in range(0, whole, batch_size)]
        plan += [epoch[i] for i in torch.randperm(len(epoch), generator=order).tolist()]
    return plan[:count]
