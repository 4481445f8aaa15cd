"""Scores on the test splits, task by task, and what each method gains over the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from rankbench.bench.records import RunRecord, Scale
from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Block, Folded, Section, Table
from rankbench.reports.render.numbers import MISSING, counts, metric_name, p_value, plain, score
from rankbench.reports.render.words import listed, words
from rankbench.reports.stats.decision import ALPHA, LEVEL, POWER
from rankbench.reports.stats.evidence import (
    Array,
    Bootstrap,
    Evidence,
    Unjudged,
    counted,
    hierarchical_bootstraps,
)
from rankbench.reports.stats.noise import minimum_detectable_effect, noise_card
from rankbench.reports.stats.standing import Basis
from rankbench.reports.stats.summary import selection_score, spread
from rankbench.reports.stats.sweep import selected_by
from rankbench.reports.study import Study
from rankbench.tasks.metrics import find

DRAWS = 4000
"""Of the bootstrap: drawn again, an end moves by about a fiftieth of the interval."""


def section(study: Study) -> Section | None:
    """Every metric of every task, with the gains over the baseline and its noise."""
    groups = study.shown.groups
    how = words("scores", "gains", baseline=study.suite.baseline, level=LEVEL)
    parts: list[Block] = [words("scores"), Folded("How gains are judged", [how])]
    for group in groups:
        if group.letter == "A":
            parts.append(_protocols([each for each in groups if each.task == group.task]))
        told: list[Block] = [_table(group)]
        if (constant := group.constant_score) is not None:
            told.append(f"A constant answer scores {plain(constant, group.scale.percent)}.")
        if find(group.metric) is None:
            told.append(words("scores", "unknown", metric=group.metric))
        parts.append(Section(group.name, [*told, *gains(study, group)]))
    return Section("Scores by task", parts) if groups else None


def _protocols(groups: list[Group]) -> str:
    letters = ", ".join(group.letter for group in groups)
    fields = ", ".join(f"`{field}`" for field in groups[0].differing)
    return f"`{groups[0].task}` was run under {len(groups)} protocols ({letters}) that differ in {fields}."


def _table(group: Group) -> Table:
    main = group.metric
    metrics = [main, *sorted({key for record in group.records for key in record.metrics.best} - {main})]
    moved = any(record.metrics.last.get(main) != record.metrics.best.get(main) for record in group.records)
    selected = any(selection_score(record) is not None for record in group.records)

    def cells(runs: list[RunRecord]) -> Iterator[str]:
        for key in metrics:
            yield _score([run.metrics.best.get(key) for run in runs], _scale(group, key))
        if moved:
            yield _score([run.metrics.last.get(main) for run in runs], group.scale)
        if selected:
            yield _score(map(selection_score, runs), selected_by(group))
        yield counts([run.parameters.trainable for run in runs])
        yield counts([run.parameters.adapter for run in runs])

    header = ["adapter", *(f"{_named(group, key)}, best" for key in metrics)]
    header += [f"{_named(group, main)}, last"] if moved else []
    by = group.record.metrics.selection
    header += ["selection" if by == main else f"selection: {_named(group, by)}"] if selected else []
    header += ["trainable parameters", "of the adapter"]
    return Table(header, [[label, *cells([*group.runs[label].values()])] for label in _by_merit(group)])


def _by_merit(group: Group) -> list[str]:
    sign = 1 if group.lower_is_better else -1

    def merit(label: str) -> float:
        runs = group.runs[label].values()
        value = spread(run.metrics.best[group.metric] for run in runs if group.metric in run.metrics.best)
        return sign * value.mean if value else float("inf")

    return sorted(group.runs, key=merit)


def _score(values: Iterable[float | None], scale: Scale) -> str:
    return score(spread(value for value in values if value is not None), scale.percent)


def _scale(group: Group, metric: str) -> Scale:
    return next(run.metrics.scales[metric] for run in group.records if metric in run.metrics.scales)


def _named(group: Group, metric: str) -> str:
    return metric_name(metric, _scale(group, metric))


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
    gained = study.gains[group]
    paired = [compared.gains(label, baseline) for label in gained]
    drawn = hierarchical_bootstraps(paired, level=LEVEL, draws=DRAWS)
    rows = [
        [label, *_row(compared, *gained[label], gain, resampled)]
        for label, gain, resampled in zip(gained, paired, drawn, strict=True)
    ]
    yield Table(["adapter", compared.heading(group.metric, baseline), "bootstrap", "p (Holm)", "seeds"], rows)
    items = f" and {own[0].size:,} test items" if own[0].ndim else ", the items held fixed"
    yield f"Over seeds{items}. {card}"
    if compared.plan:
        yield words("scores", "stages", stages=listed(map(str, compared.plan)))


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
    compared: Basis, found: Evidence | Unjudged, p: float | None, paired: Array, drawn: Bootstrap | Unjudged
) -> list[str]:
    interval = compared.judged(found, float(paired.mean())) if len(paired) else MISSING
    resampled = MISSING if isinstance(drawn, Unjudged) else compared.ends(drawn.low, drawn.high)
    return [interval, resampled, p_value(p), str(len(paired))]
