"""What each method gains over the baseline on a task, beside what the baseline differs from itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Block, Table
from rankbench.reports.render.markdown import MISSING, p_value
from rankbench.reports.render.words import words
from rankbench.reports.stats.basis import Basis
from rankbench.reports.stats.decision import ALPHA, LEVEL, POWER
from rankbench.reports.stats.evidence import Evidence, Unjudged, counted, hierarchical_bootstrap
from rankbench.reports.stats.noise import minimum_detectable_effect, noise_card
from rankbench.reports.study import Study

DRAWS = 4000
"""Of the bootstrap: drawn again, an end moves by about a fiftieth of the interval."""


def gains(study: Study, group: Group) -> Iterator[Block]:
    """The gains, and the noise card below them."""
    compared, baseline = study.bases[group], group.baseline
    if baseline is None or baseline not in compared.scores:
        yield f"No run of {study.suite.baseline} here to take differences to."
        return
    own = list(compared.scores[baseline].values())
    card = noise(baseline, own, compared.size)
    if len(compared.scores) == 1:
        yield card
        return
    rows = [_row(compared, baseline, label, *found) for label, found in study.gains[group].items()]
    yield Table(["adapter", compared.heading(group.metric, baseline), "bootstrap", "p (Holm)", "seeds"], rows)
    items = f" and {own[0].size:,} test items" if own[0].ndim else ", the items held fixed"
    yield f"Over seeds{items}. {card}"


def noise(label: str, scores: list[np.ndarray], size: Callable[[float], str]) -> str:
    """The noise card of one method's scores, one entry a seed, and the least gain that as many seeds find;
    `size` tells a difference."""
    card = noise_card(float(score.mean()) for score in scores)
    if isinstance(card, Unjudged):
        return f"The noise of {label} is not known: {card}."
    apart = np.abs(card.differences)
    least = minimum_detectable_effect(card.sd, len(scores))
    return words(
        "scores",
        "noise",
        label=label,
        seeds=card.seeds,
        sd=size(card.sd),
        sides="single runs" if card.per_side == 1 else f"means of {card.per_side} runs",
        median=size(float(np.median(apart))),
        most=size(float(apart.max())),
        reach=size(card.reach),
        found=counted(len(scores), "seed"),
        power=POWER,
        least=f"unknown ({least})" if isinstance(least, Unjudged) else size(least),
        alpha=ALPHA,
    )


def _row(
    compared: Basis, baseline: str, label: str, found: Evidence | Unjudged, p: float | None
) -> list[str]:
    paired = compared.gains(label, baseline)
    interval = compared.text(float(paired.mean())) if len(paired) else MISSING
    if isinstance(found, Evidence):
        low, high = (float(end) for end in found.interval(LEVEL))
        interval = compared.ranged(float(found.estimate), low, high)
    drawn = hierarchical_bootstrap(paired, level=LEVEL, draws=DRAWS)
    resampled = MISSING if isinstance(drawn, Unjudged) else compared.ends(drawn.low, drawn.high)
    return [label, interval, resampled, p_value(p), str(len(paired))]
