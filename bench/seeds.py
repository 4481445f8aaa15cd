"""One seed of a run, several independent streams (initialisation, data order, dropout), and the order of
examples that follows from one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

BUCKET = 8
"""Batches whose examples are sorted by length together, so that little is padded."""


def stream(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of a run; other purposes and seeds give unrelated ones."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose of a run."""
    return torch.Generator().manual_seed(stream(seed, purpose))


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
