"""What each method gains over the baseline on a task, beside what the baseline differs from itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rankbench.reports.frames import BASELINE, Group
from rankbench.reports.render.markdown import MISSING, p_value, paragraphs, table
from rankbench.reports.stats.basis import Basis, basis
from rankbench.reports.stats.decision import ALPHA, LEVEL, POWER
from rankbench.reports.stats.evidence import Evidence, Unjudged, counted, hierarchical_bootstrap
from rankbench.reports.stats.noise import minimum_detectable_effect, noise_card

DRAWS = 4000
"""Of the bootstrap: drawn again, an end moves by about a fiftieth of the interval."""

HOW_TO_READ = (
    f"Gains over {BASELINE} are taken on the seeds and test items that both methods have; positive is "
    "better. Errors are compared by their ratio, in the mean of its logarithm; below 1 is better. "
    f"Intervals are {LEVEL:.0%}, each row's own: what the mean gain may be for new seeds and, where "
    "the runs left their predictions, for new test items too (correlations are linearised over items). The "
    "first interval is the one judged; the bootstrap, which draws seeds and items, shows whether it is "
    "lopsided. p is two-sided, of “no gain”, Holm-adjusted over the methods of the table. The noise card "
    f"sets {BASELINE} against itself on disjoint seeds: a gain of that size is what other seeds give too."
)


def gains_over_baseline(group: Group) -> str:
    """The gains, and the noise card below them."""
    compared = basis(group)
    if group.baseline not in compared.scores:
        return f"No run of {BASELINE} here to take differences to."
    own = list(compared.scores[group.baseline].values())
    over = (
        f"Over seeds and {own[0].size:,} test items." if own[0].ndim else "Over seeds, the items held fixed."
    )
    card = noise(group.baseline, own, compared.size)
    if len(compared.scores) == 1:
        return card
    return paragraphs(_table(group.metric, group.baseline, compared), f"{over} {card}")


def noise(label: str, scores: list[np.ndarray], size: Callable[[float], str]) -> str:
    """The noise card of one method's scores, one entry a seed, and the least gain that as many seeds find;
    `size` tells a difference."""
    card = noise_card(float(score.mean()) for score in scores)
    if isinstance(card, Unjudged):
        return f"The noise of {label} is not known: {card}."
    apart = np.abs(card.differences)
    sides = "single runs" if card.per_side == 1 else f"means of {card.per_side} runs"
    least = minimum_detectable_effect(card.sd, len(scores))
    detectable = f"unknown ({least})" if isinstance(least, Unjudged) else size(least)
    return (
        f"Noise card, {label} against itself over {card.seeds} seeds: sd {size(card.sd)}; "
        f"{sides} on disjoint seeds lie {size(float(np.median(apart)))} apart in the median, "
        f"{size(float(apart.max()))} at most; two means of {card.seeds} lie more than "
        f"{size(card.reach)} apart in one case of 20. Least gain that "
        f"{counted(len(scores), 'seed')} find with {POWER:.0%} power: {detectable} (paired t-test at "
        f"{ALPHA:.0%}, as if pairing did not help)."
    )


def _table(metric: str, baseline: str, compared: Basis) -> str:
    rows = []
    for adapter, (found, p) in compared.against(baseline).items():
        paired = compared.gains(adapter, baseline)
        interval = compared.text(float(paired.mean())) if len(paired) else MISSING
        drawn = hierarchical_bootstrap(paired, level=LEVEL, draws=DRAWS)
        if isinstance(found, Evidence):
            low, high = (float(end) for end in found.interval(LEVEL))
            interval = compared.ranged(float(found.estimate), low, high)
        resampled = MISSING if isinstance(drawn, Unjudged) else compared.ends(drawn.low, drawn.high)
        rows.append([adapter, interval, resampled, p_value(p), str(len(paired))])
    heading = compared.heading(metric, baseline)
    return table(["adapter", heading, "bootstrap", "p (Holm)", "seeds"], rows)
