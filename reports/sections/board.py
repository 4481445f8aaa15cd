"""The board of tuned methods: one table a task, the least held-out loss first, in groups instead of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Block, Folded, Picture, Section, Table
from rankbench.reports.render.figure import Axis, Figure, Level, Mark, Panel, Row, spans_decades
from rankbench.reports.render.looks import GREY, Look
from rankbench.reports.render.numbers import MISSING, number, plain, ranged
from rankbench.reports.render.words import listed, words
from rankbench.reports.sections.leaderboard import heading, untaught
from rankbench.reports.stats.costs import memory_ratios
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.standing import Beside, Standing
from rankbench.reports.stats.ties import LEVEL as TIES
from rankbench.reports.stats.ties import tied
from rankbench.reports.stats.trials import Tuned, tunings
from rankbench.reports.study import Study

LOOKS: dict[Beside | None, tuple[str, str]] = {
    "above": ("shown to beat {baseline}", "#009E73"),
    None: ("not told from {baseline}", GREY),
    "below": ("shown to lose to {baseline}", "#D55E00"),
}
MOST = 6
"""Methods that a sentence names."""
FACTOR = 4
"""Losses that range over more than this are drawn on a logarithmic axis."""


def section(study: Study) -> Section | None:
    """A table and a figure for each task whose settings were chosen by trials and which has such a loss."""
    parts: list[Block] = [
        Section(
            group.name, [_table(study, group, by_loss), *_untaught(study, by_loss), _picture(study, by_loss)]
        )
        for group, by_loss in _boards(study)
    ]
    if not parts:
        return None
    baseline, measured = study.suite.baseline, study.suite.overhead
    found = _found(study) | {"costs" if measured else "no_costs"}
    notes = (part for part in ("spread", "marked", "costs", "no_costs", "pruned") if part in found)
    told = " ".join(words("board", part, baseline=baseline) for part in notes)
    said = words("board", baseline=baseline, level=LEVEL, notes=told)
    how = Folded("How groups are formed", [words("board", "groups", level=TIES)])
    return Section("Board", [said, how, *parts])


def _found(study: Study) -> set[str]:
    """What a reader of the tables would stumble over, by the part of the text that tells of it."""
    found = set()
    for group, by_loss in _boards(study):
        judging = _judging(study, by_loss)
        groups, standings = tied(judging.bases[by_loss]), judging.standings[by_loss]
        numbers = [groups[label] for label in _by_merit(standings) if label in groups]
        alike = [label for label, number in groups.items() if number == groups.get(group.baseline or "")]
        if numbers != sorted(numbers):
            found.add("spread")
        if any(standings[label].beside for label in alike):
            found.add("marked")
        if any(one.is_pruned for one in group.contenders.values()):
            found.add("pruned")
    return found


def best(study: Study) -> Iterator[str]:
    """A sentence on the first groups, which hold what the others are shown to be worse than; on a task that
    has no other there is nothing to list."""
    first, alike = [], []
    for group, by_loss in _boards(study):
        groups = tied(_judging(study, by_loss).bases[by_loss])
        leaders = [f"`{label}`" for label, number in groups.items() if number == 1]
        if len(leaders) == len(groups) > 1:
            alike.append(f"of the {len(groups)} that are in a group on {group.name}")
        elif leaders:
            first.append(f"{listed(leaders, MOST)} ({len(leaders)} of {len(groups)}) on {group.name}")
    told = [words("board", "first", found="; ".join(first))] if first else []
    told += [words("board", "alike", found=listed(alike))] if alike else []
    if told:
        yield words("board", "best", found=". ".join(told))


def _boards(study: Study) -> Iterator[tuple[Group, Group]]:
    """The groups of such tasks, each with the same judged by its loss."""
    errors = {group.name: group for group in study.shown.groups if group.lower_is_better}
    by_loss = errors | {group.name: group for group in study.by_loss.shown.groups}
    for group in study.shown.groups:
        if (
            any(record.chosen_by for record in group.records)
            and group.name in by_loss
            and len(group.runs) > 1
        ):
            yield group, by_loss[group.name]


def _judging(study: Study, group: Group) -> Study:
    return study if group in study.standings else study.by_loss


def _table(study: Study, group: Group, by_loss: Group) -> Table:
    """`by_loss`: the same runs, judged by their loss."""
    judging, baseline = _judging(study, by_loss), study.suite.baseline
    standings = judging.standings[by_loss]
    forgotten = {one.name: found for one, found in study.by_forgetting.standings.items()}.get(group.name, {})
    tuned = tunings(study.suite).get(group.task, {})
    groups = tied(judging.bases[by_loss])
    is_same = by_loss is group
    costs = {
        "parameters": _parameters(group),
        "step time": study.step_ratios[group],
        "memory": memory_ratios(group, study.shown),
    }
    costs = {name: cost for name, cost in costs.items() if cost}
    header = [
        *("method", "group", f"held-out loss ({by_loss.metric}) ↓"),
        *([] if is_same else [heading(group)]),
        *(["forgetting ↓"] if forgotten else []),
        *(f"{name} ÷ {baseline}'s" for name in costs),
        *(["one trial", "best of its trials"] if tuned else []),
    ]
    rows = [
        [
            label,
            str(groups[label]) if label in groups else MISSING,
            _loss(standings[label]),
            *([] if is_same else [_mean(study.standings[group].get(label), group.scale.percent)]),
            *([_mean(forgotten.get(label), percent=False)] if forgotten else []),
            *(f"{cost[label]:.3g}" if label in cost else MISSING for cost in costs.values()),
            *(_tried(tuned.get(label)) if tuned else []),
        ]
        for label in _by_merit(standings)
    ]
    return Table(header, rows, words=1, search="method")


def _untaught(study: Study, by_loss: Group) -> Iterator[str]:
    """That the order is one of methods none of which is shown to tell items apart, by their loss."""
    if (constant := by_loss.constant_score) is not None and untaught(_judging(study, by_loss), by_loss):
        yield words("board", "untaught", constant=plain(constant, by_loss.scale.percent))


def _by_merit(standings: Mapping[str, Standing]) -> list[str]:
    return sorted(standings, key=lambda label: standings[label].mean)


def _parameters(group: Group) -> dict[str, float]:
    """Of the adapters, over the baseline's."""
    own = {label: one.parameters for label, one in group.contenders.items()}
    base = own.get(group.baseline or "")
    return {label: count / base for label, count in own.items()} if base else {}


def _loss(found: Standing) -> str:
    text = number(found.mean)
    if found.low is not None and found.high is not None:
        text = ranged(found.mean, found.low, found.high, fraction=False)
    return f"**{text}** ({found.n})" if found.beside == "above" else f"{text} ({found.n})"


def _mean(found: Standing | None, percent: bool) -> str:
    if found is None:
        return MISSING
    text = plain(found.mean, percent)
    return f"**{text}**" if found.beside == "above" else text


def _tried(tuned: Tuned | None) -> list[str]:
    """The score of the selection items expected of one trial, and of the best of all."""
    if tuned is None:
        return [MISSING, MISSING]
    first, *_, last = [*tuned.expected, tuned.expected[-1]]
    percent = tuned.scale.percent
    # What those that were stopped early would have reached is not known.
    one = MISSING if tuned.stopped else plain(first, percent)
    return [one, f"{plain(last, percent)} ({len(tuned.expected)})"]


def _picture(study: Study, group: Group) -> Picture:
    return Picture(
        f"board--{group.file_name}",
        f"Held-out loss on {group.name}",
        words("board", "caption", level=LEVEL),
        _figure(group, _judging(study, group).standings[group], study.suite.baseline),
    )


def _figure(group: Group, standings: Mapping[str, Standing], baseline: str) -> Figure:
    """A row a method, the best on top, and a line at the baseline."""
    order = _by_merit(standings)
    means = [one.mean for one in standings.values()]
    # A mean of 0 has no place on a logarithmic axis, and what ends at 0 has no end there.
    log = 10 if min(means) > 0 and spans_decades(means, FACTOR) else None
    least = min(means) / 10
    marks: list[Mark] = [*_level(group, standings)]
    for label in order:
        one = standings[label]
        name, colour = LOOKS[one.beside]
        look = Look(name.format(baseline=baseline), colour)
        is_open = log is not None and one.low is not None and one.low <= 0
        low = least if is_open else one.low
        marks.append(Row(look, label, one.mean, low, one.high, open_low=is_open, listed=True))
    x = Axis(f"{group.metric} of the test items", log)
    return Figure([Panel(marks, x, Axis(categories=order))], (8.5, 1.2 + 0.22 * len(order)))


def _level(group: Group, standings: Mapping[str, Standing]) -> Iterator[Level]:
    if group.baseline and group.baseline in standings:
        yield Level(standings[group.baseline].mean, group.baseline, vertical=True)
