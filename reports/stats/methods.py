"""Several methods on one task, each against a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from numpy.typing import ArrayLike

from rankbench.reports.stats.evidence import Evidence, Unjudged, evidence, gains

Key = TypeVar("Key")
Scores = Mapping[int, ArrayLike]
"""Seed -> score, or scores per item."""


class Against(NamedTuple):
    """A method against the baseline: its gain, and the p-value after Holm over the methods."""

    found: Evidence | Unjudged
    p: float | None
    """None where the gain cannot be judged; such a method does not count in Holm."""


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Adjusted p-values (Holm 1979): reject where below alpha, and at most alpha of the families hold
    any false rejection."""
    # Not statsmodels' multipletests: it collects garbage at each call, which takes a thousand times longer.
    adjusted, least = {}, 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[key]))
        adjusted[key] = least
    return {key: adjusted[key] for key in p_values}


def against_baseline(
    scores: Mapping[str, Scores], baseline: str, *, lower_is_better: bool = False
) -> dict[str, Against]:
    """Every other method against `baseline` on the seeds they share, gains positive where better."""
    found = {
        method: evidence(gains(own, scores[baseline], lower_is_better=lower_is_better))
        for method, own in scores.items()
        if method != baseline
    }
    adjusted = holm({name: float(one.p_value()) for name, one in found.items() if isinstance(one, Evidence)})
    return {method: Against(one, adjusted.get(method)) for method, one in found.items()}
