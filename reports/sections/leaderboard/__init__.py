"""The main score of every adapter on every task, and what the data tell of it beside the baseline's."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Block, Folded, PageOnly, Section, Table
from rankbench.reports.render.markdown import MISSING, plain, ranged
from rankbench.reports.render.words import words
from rankbench.reports.sections.leaderboard.board import board, unit
from rankbench.reports.stats.decision import ALPHA, LEVEL
from rankbench.reports.stats.standing import Standing
from rankbench.reports.stats.sweep import RATE
from rankbench.reports.study import Study

ANYTHING = "anything"
"""How far a method may be from the baseline where the data exclude no difference."""


def section(study: Study) -> Section | None:
    """The main metric, adapters × tasks; the ranks of a sweep are rows of a table of their own."""
    groups, baseline = study.shown.groups, study.suite.baseline
    if not groups:
        return None
    said: dict[str, Any] = {"level": LEVEL, "alpha": ALPHA, "baseline": baseline}
    parts: list[Block] = [words("leaderboard", **said)]
    for swept in (False, True):
        if shown := [group for group in groups if group.is_rank_sweep is swept]:
            parts.append(_board(study, shown))
    parts.append(Folded("How this is judged", [words("leaderboard", "judged", **said)]))
    parts += _told_apart(study)
    task_by_task = Section("Task by task", [words("leaderboard", "board", **said), board(study)])
    return Section("Leaderboard", [*parts, PageOnly([task_by_task])])


def untaught(study: Study, group: Group) -> bool:
    """Whether none of a group's methods is shown to beat the best constant answer."""
    lows = [found.low for found in study.standings[group].values() if found.low is not None]
    return bool(lows) and group.constant_score is not None and max(lows) <= group.constant_score


def how_far(study: Study, group: Group, size: float) -> str:
    """A difference that the data leave open, of the size that `Told.open` has."""
    low, high = group.scale.low, group.scale.high
    widest = math.inf if low is None or high is None else high - low
    return ANYTHING if size >= widest else study.bases[group].size(size)


def _board(study: Study, groups: Sequence[Group]) -> Table:
    """A row a label; the trials of a sweep share their method's, each with what was chosen."""
    cells: dict[str, dict[Group, list[str]]] = defaultdict(lambda: defaultdict(list))
    for label in study.shown.labels:
        for group in groups:
            if label in group.runs:
                one, text = group.contenders[label], _standing(group, study.standings[group].get(label))
                if RATE in one.point:
                    point = ", ".join(f"{name} {value}" for name, value in one.point.items())
                    cells[one.method][group].append(f"{text} at {point}")
                else:
                    cells[label][group].append(text)
    rows = [[name, *("; ".join(of[group]) or MISSING for group in groups)] for name, of in cells.items()]
    return Table(["adapter", *(f"{group.name}: {unit(group).name}" for group in groups)], rows)


def _told_apart(study: Study) -> Iterator[Block]:
    """What the columns tell in words, and those in which nothing was learned."""
    baseline = study.suite.baseline
    several = [group for group in study.shown.groups if len(study.standings[group]) > 1]
    if rows := [[group.name, *_told(study, group)] for group in several if group.baseline]:
        header = [
            "task",
            f"shown to beat {baseline}",
            "shown to lose to it",
            "not told from it (may differ by)",
        ]
        told = words("leaderboard", "told", baseline=baseline, level=LEVEL)
        yield Section("What the data tell", [told, Table(header, rows, words=4)], "told-apart")
    if alone := [group.name for group in several if not group.baseline]:
        yield words("leaderboard", "alone", baseline=baseline, tasks=", ".join(alone))
    if names := [group.name for group in study.shown.groups if untaught(study, group)]:
        yield words("leaderboard", "untaught", tasks=", ".join(names))


def _told(study: Study, group: Group) -> list[str]:
    told = study.told[group]
    left = [f"{label} ({how_far(study, group, size)})" for label, size in told.open.items()]
    alike: dict[str, list[str]] = {}
    for label, reason in told.unjudged.items():
        alike.setdefault(reason, []).append(label)
    unknown = [f"{', '.join(labels)} (unknown: {reason})" for reason, labels in alike.items()]
    cells = [
        ", ".join(told.above),
        ", ".join(told.below),
        "; ".join(filter(None, [", ".join(left), *unknown])),
    ]
    return [cell or MISSING for cell in cells]


def _standing(group: Group, found: Standing | None) -> str:
    if found is None:
        return MISSING
    fraction = group.scale.percent
    text = plain(found.mean, fraction)
    if found.low is not None and found.high is not None:
        text = ranged(found.mean, found.low, found.high, fraction)
    return f"**{text}** ({found.n})" if found.beside == "above" else f"{text} ({found.n})"
