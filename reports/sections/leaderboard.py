"""The main score of every adapter on every task, and what the data tell of it beside the baseline's."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Block, Folded, PageOnly, Section, Strip, Table
from rankbench.reports.render.numbers import MISSING, counts, metric_name, plain, ranged
from rankbench.reports.render.words import words
from rankbench.reports.stats.decision import ALPHA, LEVEL
from rankbench.reports.stats.standing import Standing
from rankbench.reports.study import Study

ELSEWHERE = " †"
ANYTHING = "anything"
"""How far a method may be from the baseline where the data exclude no difference, or none that is told."""
LARGEST_FACTOR = 1000
"""Of errors that is told: beyond it says as little."""


def section(study: Study) -> Section | None:
    """The main metric, adapters × tasks; the ranks of a sweep are rows of a table of their own."""
    groups, baseline = study.shown.groups, study.suite.baseline
    if not groups:
        return None
    said: dict[str, Any] = {"level": LEVEL, "alpha": ALPHA, "baseline": baseline}
    parts: list[Block] = [words("leaderboard", **said)]
    for swept in (False, True):
        if shown := [group for group in groups if group.is_rank_sweep is swept]:
            scores = {group: study.standings[group] for group in shown}
            parts += [columns(study.shown.labels, scores), *_elsewhere(shown)]
    if (forgotten := study.by_forgetting).shown.groups:
        parts += [
            words("leaderboard", "forgetting", **said),
            columns(forgotten.shown.labels, forgotten.standings),
        ]
    judged = words("leaderboard", "judged", **said)
    if any(group.plan for group in groups):
        judged += f" {words('leaderboard', 'stages')}"
    parts.append(Folded("How this is judged", [judged]))
    parts += told_apart(study, "told-apart")
    task_by_task = Section("Task by task", [words("leaderboard", "board", **said), board(study)])
    return Section("Leaderboard", [*parts, PageOnly([task_by_task])])


def untaught(study: Study, group: Group) -> bool:
    """Whether none of a group's methods is shown to beat the best constant answer."""
    standings, constant = study.standings[group].values(), group.constant_score
    ends = [found.high if group.lower_is_better else found.low for found in standings]
    if constant is None or not any(end is not None for end in ends):
        return False
    # Of one seed no interval is known: its own score is the least that speaks for it.
    worst = [found.mean if end is None else end for found, end in zip(standings, ends, strict=True)]
    return min(worst) >= constant if group.lower_is_better else max(worst) <= constant


def how_far(study: Study, group: Group, size: float) -> str:
    """A difference that the data leave open, of the size that `Told.open` has."""
    low, high = group.scale.low, group.scale.high
    if study.bases[group].is_ratio:
        widest = math.log(LARGEST_FACTOR)
    else:
        widest = math.inf if low is None or high is None else high - low
    return ANYTHING if size >= widest else study.bases[group].size(size)


def columns(labels: Sequence[str], standings: Mapping[Group, Mapping[str, Standing]]) -> Table:
    """A row a label; the trials of a sweep share their method's, each with what was chosen."""
    groups = list(standings)
    cells: dict[str, dict[Group, list[str]]] = defaultdict(lambda: defaultdict(list))
    for label in labels:
        for group in groups:
            if label in group.runs:
                one, text = group.contenders[label], standing(group, standings[group].get(label))
                text += ELSEWHERE if label in group.elsewhere else ""
                if one.is_swept:
                    point = ", ".join(
                        f"{name.replace('_', ' ')} {value}" for name, value in one.point.items()
                    )
                    cells[one.method][group].append(f"{text} at {point}")
                else:
                    cells[label][group].append(text)
    rows = [[name, *("; ".join(of[group]) or MISSING for group in groups)] for name, of in cells.items()]
    header = ["adapter", *(f"{group.name}: {heading(group)}" for group in groups)]
    # What was chosen may break between its words; a number alone does not.
    chosen = any(one.is_swept for group in groups for one in group.contenders.values())
    return Table(header, rows, words=len(header) if chosen else 1)


def _elsewhere(groups: Sequence[Group]) -> Iterator[str]:
    """What the mark says, where a record bears it."""
    if found := {group.name: {*chain(*group.elsewhere.values())} for group in groups if group.elsewhere}:
        named = "; ".join(f"{name} on {', '.join(sorted(others))}" for name, others in found.items())
        yield words("leaderboard", "elsewhere", mark=ELSEWHERE.strip(), found=named)


def told_apart(study: Study, anchor: str) -> Iterator[Block]:
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
        yield Section("What the data tell", [told, Table(header, rows, words=4)], anchor)
    if alone := [group.name for group in several if not group.baseline]:
        yield words("leaderboard", "alone", baseline=baseline, tasks=", ".join(alone))
    if names := [group.name for group in study.shown.groups if untaught(study, group)]:
        yield words("leaderboard", "untaught", tasks=", ".join(names))


def _told(study: Study, group: Group) -> list[str]:
    told = study.told[group]
    names = {label: one.name for label, one in group.contenders.items()}
    left = [f"{names[label]} ({how_far(study, group, size)})" for label, size in told.open.items()]
    alike: dict[str, list[str]] = {}
    for label, reason in told.unjudged.items():
        alike.setdefault(reason, []).append(names[label])
    unknown = [f"{', '.join(dict.fromkeys(same))} (unknown: {reason})" for reason, same in alike.items()]
    cells = [
        ", ".join(names[label] for label in told.above),
        ", ".join(names[label] for label in told.below),
        "; ".join(filter(None, [", ".join(left), *unknown])),
    ]
    return [cell or MISSING for cell in cells]


def standing(group: Group, found: Standing | None) -> str:
    """A mean with its interval and seeds, bold where shown to beat the baseline."""
    if found is None:
        return MISSING
    fraction = group.scale.percent
    text = plain(found.mean, fraction)
    if found.low is not None and found.high is not None:
        text = ranged(found.mean, found.low, found.high, fraction)
    return f"**{text}** ({found.n})" if found.beside == "above" else f"{text} ({found.n})"


def heading(group: Group) -> str:
    """The group's main metric, how it was scaled, and which way is better."""
    return f"{metric_name(group.metric, group.scale)} {'↓' if group.lower_is_better else '↑'}"


def board(study: Study) -> Table:
    """Every adapter on every task, the best mean of a task first."""
    baseline = study.suite.baseline
    also = {"held-out loss": study.by_loss, "forgetting": study.by_forgetting}
    more = {
        name: {group.name: found for group, found in seen.standings.items()}
        for name, seen in also.items()
        if seen.shown.groups
    }
    header = [
        *("adapter", "task", "metric", f"beside {baseline}", "mean", f"{LEVEL:.0%} interval"),
        *("on the task's range", *more, "seeds", "trainable parameters", f"step time ÷ {baseline}'s"),
    ]
    rows = [row for group in study.shown.groups for row in _rows(study, group, [*more.values()])]
    return Table(header, rows, words=4, choose=["task", f"beside {baseline}"], search="adapter")


def _rows(
    study: Study, group: Group, more: Sequence[Mapping[str, Mapping[str, Standing]]]
) -> Iterator[list[str | Strip]]:
    """`more` has further standings by the group's name."""
    found, steps, percent = study.standings[group], study.step_ratios[group], group.scale.percent
    ends = [end for one in found.values() for end in (one.low, one.mean, one.high) if end is not None]
    least, most = min(ends, default=0.0), max(ends, default=0.0)
    for label in sorted(found, key=lambda label: found[label].mean, reverse=not group.lower_is_better):
        one = found[label]
        interval = MISSING
        if one.low is not None and one.high is not None:
            interval = f"[{plain(one.low, percent)}, {plain(one.high, percent)}]"
        yield [
            label,
            group.name,
            heading(group),
            one.beside or MISSING,
            plain(one.mean, percent),
            interval,
            _strip(one, least, most) if most > least else MISSING,
            *(_mean(seen.get(group.name, {}).get(label)) for seen in more),
            str(one.n),
            counts([run.parameters.trainable for run in group.runs[label].values()]),
            f"{steps[label]:.3f}" if label in steps else MISSING,
        ]


def _mean(found: Standing | None) -> str:
    return plain(found.mean, fraction=False) if found else MISSING


def _strip(one: Standing, least: float, most: float) -> Strip:
    """Mean and interval on the range from `least` to `most`."""
    ends = (one.mean if end is None else end for end in (one.low, one.mean, one.high))
    return Strip(*(100 * (end - least) / (most - least) for end in ends))
