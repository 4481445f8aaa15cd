"""Trials of a suite's `tune`: score against each hyperparameter, and what a budget of trials is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rankbench.reports.render.blocks import Block, Picture, Section, Table
from rankbench.reports.render.figure import Axis, Figure, Mark, Panel, Points, spans_decades
from rankbench.reports.render.looks import Looks, distinct, looks
from rankbench.reports.render.numbers import MISSING, metric_name, number, plain
from rankbench.reports.render.words import listed, words
from rankbench.reports.stats.trials import Tuned, tunings
from rankbench.reports.study import Study

METHODS = 8
"""Of a figure, beside the baseline: more could not be told apart."""
FACTOR = 4
"""Scores, or drawn values, that range over more than this are drawn on a logarithmic axis."""
BESIDE = 3
"""Panels, of which more stand one below the other."""
MARGIN = 0.05
"""Of the axis, below and above all scores."""
BUDGETS = (1, 2, 4, 8, 16)

Methods = Mapping[str, Tuned]


def trials(study: Study) -> list[Block]:
    """What they are, and a section for each experiment; nothing where there are none."""
    found = tunings(study.suite)
    named = [*study.shown.names, *(method for methods in found.values() for method in methods)]
    styles = looks(named, study.suite.baseline)
    parts: list[Block] = [
        Section(f"{task}: trials", [*_pictures(task, methods, styles), _table(task, methods)])
        for task, methods in found.items()
    ]
    elsewhere = sorted({one.task for one in study.suite.records if one.chosen_by} - found.keys())
    if elsewhere:
        parts.append(words("tuning", "elsewhere", tasks=listed(elsewhere)))
    return [words("tuning", "trials"), *parts] if found else parts


def _pictures(task: str, methods: Methods, styles: Looks) -> Iterator[Picture]:
    """The best methods first, and the first of all, the baseline where that was tuned, in each."""
    first, *others = methods
    others.sort(key=lambda name: _merit(methods[name]))
    parts = [others[at : at + METHODS] for at in range(0, len(others), METHODS)] or [[]]
    for place, names in enumerate(parts, 1):
        shown = {name: methods[name] for name in (first, *names)}
        several = f", {place} of {len(parts)}" if len(parts) > 1 else ""
        yield Picture(
            f"trials-{task}--{place}",
            f"Trials of {task}{several}",
            words("tuning", "caption"),
            _figure(task, shown, methods, distinct([*shown], styles)),
        )


def _merit(tuned: Tuned) -> float:
    """Smaller is better."""
    score = tuned.best.metrics.best[tuned.scored_by]
    return score if tuned.scale.lower_is_better else -score


def _figure(task: str, shown: Methods, every: Methods, styles: Looks) -> Figure:
    """A panel for each hyperparameter and one for the budget; a task's figures have one axis of scores."""
    keys = list(dict.fromkeys(key for tuned in shown.values() for key in tuned.drawn))
    axis = _scores_axis(every)
    panels = [
        _against(key, {n: one for n, one in shown.items() if key in one.drawn}, axis, styles) for key in keys
    ]
    budget: list[Mark] = []
    for name, tuned in shown.items():
        best = [_factor(tuned) * score for score in tuned.expected]
        budget.append(Points(styles[name], [*range(1, len(best) + 1)], best, joined=True, size=3))
    panels.append(Panel(budget, Axis("trials k"), axis))
    beside = len(panels) <= BESIDE
    size = (2.6 * len(panels) + 3, 4.0) if beside else (8.5, 2.8 * len(panels))
    return Figure(panels, size, task, beside=beside, shared="y" if beside else "")


def _against(key: str, shown: Methods, y: Axis, styles: Looks) -> Panel:
    """Points, joined where nothing else was drawn; the best ringed."""
    marks: list[Mark] = []
    for name, tuned in shown.items():
        look, factor = styles[name], _factor(tuned)
        places = sorted(
            (trial.point[key], factor * score)
            for trial, score in zip(tuned.trials, tuned.scores, strict=True)
        )
        x, scores = ([float(place[side]) for place in places] for side in (0, 1))
        marks.append(Points(look, x, scores, joined=len(tuned.drawn) == 1, size=4))
        best = factor * tuned.best.metrics.best[tuned.scored_by]
        marks.append(Points(look, [float(tuned.best.point[key])], [best], joined=True, filled=False, size=9))
    every = [float(trial.point[key]) for tuned in shown.values() for trial in tuned.trials]
    log = 10 if min(every) > 0 and spans_decades(every, FACTOR) else None
    return Panel(marks, Axis(key.replace("_", " "), log), y)


def _scores_axis(methods: Methods) -> Axis:
    """The same for every figure of a task."""
    one = next(iter(methods.values()))
    scores = [_factor(tuned) * score for tuned in methods.values() for score in tuned.scores]
    low, high = min(scores), max(scores)
    log = one.scale.lower_is_better and low > 0 and high > FACTOR * low
    margin = (high / low) ** MARGIN if log else MARGIN * (high - low) or abs(high) or 1.0
    ends = (low / margin, high * margin) if log else (low - margin, high + margin)
    return Axis(f"{metric_name(one.scored_by, one.scale)} of the selection items", 10 if log else None, ends)


def _factor(tuned: Tuned) -> int:
    return 100 if tuned.scale.percent else 1


def _table(task: str, methods: Methods) -> Table:
    one = next(iter(methods.values()))
    most = max(len(tuned.expected) for tuned in methods.values())
    budgets = [k for k in BUDGETS if k < most] + [most]
    halved = any(tuned.stopped for tuned in methods.values())
    failed = any(tuned.failed for tuned in methods.values())
    grown = any(tuned.widened for tuned in methods.values())
    header = [
        *("method", "tried", "chosen", "at an edge", "by trial", "into runs", "trials"),
        *(["ranges grown"] if grown else []),
        *(["stopped early"] if halved else []),
        *(["failed"] if failed else []),
        *(f"best of {k}: {metric_name(one.scored_by, one.scale)}" for k in budgets),
    ]
    rows = [
        [
            name,
            "; ".join(_range(key, *tuned.ends(key)) for key in tuned.drawn),
            _named(tuned.best.point),
            listed(_edge(key, tuned) for key in tuned.edges) or "no",
            tuned.best.adapter,
            _into(task, tuned),
            str(len(tuned.trials)),
            *([str(tuned.widened)] if grown else []),
            *([str(tuned.stopped)] if halved else []),
            *([str(tuned.failed)] if failed else []),
            *(_best(tuned, k) for k in budgets),
        ]
        for name, tuned in methods.items()
    ]
    return Table(header, rows, words=6)


def _best(tuned: Tuned, k: int) -> str:
    expected = tuned.expected
    return plain(expected[k - 1], tuned.scale.percent) if k <= len(expected) else MISSING


def _range(key: str, low: Any, high: Any) -> str:
    return f"{key.replace('_', ' ')} {number(low)} to {number(high)}"


def _named(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in point.items())


def _edge(key: str, tuned: Tuned) -> str:
    lowest, _ = tuned.ends(key)
    return f"{key.replace('_', ' ')} ({'lowest' if tuned.best.point[key] == lowest else 'highest'})"


def _into(task: str, tuned: Tuned) -> str:
    """The labels with the number of their runs, other experiments by name."""
    return (
        ", ".join(
            f"{label if where == task else f'{where}: {label}'} ({count})"
            for (where, label), count in tuned.into.items()
        )
        or MISSING
    )
