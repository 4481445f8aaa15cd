"""What every metric that is computed here must do."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from rankbench.bench.conformance.rules import demand
from rankbench.tasks.metrics import Metric

if TYPE_CHECKING:
    from rankbench.tasks.metrics import Array


def classes(items: int = 200) -> tuple[Array, Array]:
    """Targets and imperfect predictions, of the classes 0 and 1."""
    generator = np.random.default_rng(0)
    target = generator.standard_normal(items)
    prediction = target + generator.standard_normal(items)
    return (target > 0.5).astype(np.float64), (prediction > 0.5).astype(np.float64)


def is_as_its_entry_says(known: Metric, target: Array, prediction: Array) -> None:
    """Its range, direction, parts and constant, on targets and predictions (items,) that are 0 or 1."""
    compute = known.compute
    if compute is None:
        return
    score, perfect = compute(target, prediction), compute(target, target)
    demand(known.low <= score <= known.high, f"it is {score:.6g}, outside {known.low} to {known.high}")
    best = known.low if known.lower_is_better else known.high
    reached = not math.isfinite(best) or math.isclose(perfect, best, rel_tol=1e-6, abs_tol=1e-12)
    demand(reached, f"of a perfect answer it is {perfect:.6g}, its better end {best:.6g}")
    better = "below" if known.lower_is_better else "above"
    demand((score > perfect) == known.lower_is_better, f"a perfect answer is not {better} an imperfect one")
    stated = known.constant(target.tolist()) if callable(known.constant) else known.constant
    if stated is not None:
        pick = min if known.lower_is_better else max
        of_class = of_any = pick(compute(target, np.full(len(target), value)) for value in (0.0, 1.0))
        with suppress(ValueError):  # scikit-learn's, of what is no class
            of_any = pick(of_class, compute(target, np.full(len(target), target.mean())))
        reached = any(math.isclose(stated, one, rel_tol=1e-6, abs_tol=1e-12) for one in (of_class, of_any))
        demand(reached, f"the best constant answer scores {of_class:.6g}, its `constant` says {stated:.6g}")
    if known.parts and known.parts.columns == ("target", "prediction"):
        parts = known.parts.of(target, prediction)
        demand(parts.shape == target.shape, f"its parts have the shape {parts.shape}, not {target.shape}")
        same = math.isclose(float(parts.mean()), score, rel_tol=1e-6, abs_tol=1e-12)
        demand(same, f"it is {score:.6g}, the mean of its parts {parts.mean():.6g}")
