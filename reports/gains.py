"""What each method gains over the baseline on a task, beside what the baseline differs from itself."""

from __future__ import annotations

import numpy as np

from bench.stats import Evidence, Unjudged, gains, hierarchical_bootstrap
from bench.stats_methods import against_baseline
from reports.items import Scores
from reports.load import BASELINE, Group
from reports.markdown import (
    MISSING,
    ends,
    metric_name,
    p_value,
    paragraphs,
    plain,
    ranged,
    table,
)
from reports.standing import ALPHA, LEVEL

DRAWS = 4000
"""Of the bootstrap: drawn again, an end moves by about a fiftieth of the interval."""
POWER = 0.8

HOW_TO_READ = (
    f"Gains over `{BASELINE}` are taken on the seeds and test items that both methods have; positive is "
    f"better. Intervals are {LEVEL:.0%}, each row's own: what the mean gain may be for new seeds and, where "
    "the runs left their predictions, for new test items too (correlations are linearised over items). The "
    "first interval is the one judged; the bootstrap, which draws seeds and items, shows whether it is "
    "lopsided. p is two-sided, of “no gain”, Holm-adjusted over the methods of the table. The noise card "
    f"sets `{BASELINE}` against itself on disjoint seeds: a gain of that size is what other seeds give too."
)


def gains_over_baseline(group: Group) -> str:
    """The gains, and the noise card below them."""
    scores = {adapter: by_seed for adapter, by_seed in group.scores.items() if by_seed}
    if BASELINE not in scores:
        return f"No run of `{BASELINE}` here to take differences to."
    own = list(scores[BASELINE].values())
    basis = (
        f"Over seeds and {own[0].size:,} test items." if own[0].ndim else "Over seeds, the items held fixed."
    )
    card = noise(own, group.scale.percent)
    return paragraphs(*([_table(group, scores), f"{basis} {card}"] if len(scores) > 1 else [card]))


def noise(scores: list[np.ndarray], fraction: bool) -> str:
    """The noise card of one method's scores, one entry a seed, and the least gain that as many seeds find."""
    from bench.stats_noise import (
        minimum_detectable_effect,
        noise_card,
    )  # statsmodels: a second that other commands save

    card = noise_card(float(score.mean()) for score in scores)
    if isinstance(card, Unjudged):
        return f"Noise of {BASELINE}: {card}."
    apart = np.abs(card.differences)
    sides = "single runs" if card.per_side == 1 else f"means of {card.per_side} runs"
    least = minimum_detectable_effect(card.sd, len(scores), alpha=ALPHA, power=POWER)
    detectable = str(least) if isinstance(least, Unjudged) else plain(least, fraction)
    return (
        f"Noise card, {BASELINE} against itself over {card.seeds} seeds: sd {plain(card.sd, fraction)}; "
        f"{sides} on disjoint seeds lie {plain(float(np.median(apart)), fraction)} apart in the median, "
        f"{plain(float(apart.max()), fraction)} at most; two means of {card.seeds} lie more than "
        f"{plain(card.reach, fraction)} apart in one case of 20. Least gain that {len(scores)} seeds find "
        f"with {POWER:.0%} power: {detectable} (paired t-test at {ALPHA:.0%}, as if pairing did not help)."
    )


def _table(group: Group, scores: Scores) -> str:
    lower, fraction = group.lower_is_better, group.scale.percent
    rows = []
    for adapter, (found, p) in against_baseline(scores, BASELINE, lower_is_better=lower).items():
        paired = gains(scores[adapter], scores[BASELINE], lower_is_better=lower)
        interval = plain(float(paired.mean()), fraction, signed=True) if len(paired) else MISSING
        drawn = hierarchical_bootstrap(paired, level=LEVEL, draws=DRAWS)
        if isinstance(found, Evidence):
            low, high = (float(end) for end in found.interval(LEVEL))
            interval = ranged(float(found.estimate), low, high, fraction, signed=True)
        resampled = (
            MISSING if isinstance(drawn, Unjudged) else ends(drawn.low, drawn.high, fraction, signed=True)
        )
        rows.append([adapter, interval, resampled, p_value(p), str(len(paired))])
    scale = metric_name(group.metric, group.scale)
    return table(["adapter", f"gain over {BASELINE}, {scale}", "bootstrap", "p (Holm)", "seeds"], rows)
