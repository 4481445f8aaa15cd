"""What each of several processes holds of a run that they share: by a computation, not by counting."""

from __future__ import annotations

from collections.abc import Mapping

from rankbench.bench.cost.sizes import Sizes
from rankbench.bench.suite import Training

FLOAT = 4
"""Bytes of a trained parameter, of its gradient, and of each of its moments."""


def of_each(
    phases: Mapping[str, int], recipe: Training, weights: int, size: Sizes, layers: int
) -> dict[str, int]:
    """Bytes a phase, of what one process alone would hold, `weights` among them. Gradients that are averaged
    stand together once more (DDP's buckets, and ours). Of sharded weights a process holds its part (where all
    is trained, of gradients and moments too), and one of the layers whole."""
    if not recipe.shard:
        return {phase: held + FLOAT * size.trainable for phase, held in phases.items()}
    cut = weights if size.trainable < size.total else weights + 3 * FLOAT * size.trainable
    kept = cut // recipe.processes + weights // max(1, layers)
    return {phase: held - cut + kept for phase, held in phases.items()}
