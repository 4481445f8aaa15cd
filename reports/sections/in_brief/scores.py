"""What helps, what hurts, and what these runs cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rankbench.reports.frames import Group
from rankbench.reports.render.words import listed, words
from rankbench.reports.sections.leaderboard import ANYTHING, how_far, untaught
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.evidence import Evidence, counted
from rankbench.reports.study import Study

MOST = 6
"""Tasks, or methods, that a sentence lists."""


def scores(study: Study) -> Iterator[str]:
    """Sentences from the judged gains of every method on every task."""
    baseline, told = study.suite.baseline, study.told
    compared = [group for group in study.shown.groups if study.gains[group]]
    judged = sum(isinstance(one.found, Evidence) for group in compared for one in study.gains[group].values())
    if helps := [_shown(study, group, labels) for group in compared if (labels := told[group].above)]:
        yield words("in_brief", "helps", baseline=baseline, found=listed(helps, MOST))
    elif judged:
        yield words("in_brief", "nothing_helps", baseline=baseline)
    if hurts := [_shown(study, group, labels) for group in compared if (labels := told[group].below)]:
        yield words("in_brief", "hurts", baseline=baseline, found=listed(hurts, MOST))
    if left := [group for group in compared if told[group].open]:
        still = sum(len(told[group].open) for group in left)
        ranges = listed((_range(study, group) for group in left), MOST)
        yield words("in_brief", "open", open=still, all=judged, baseline=baseline, ranges=ranges)
    if reasons := [reason for group in compared for reason in told[group].unjudged.values()]:
        found = "; ".join(dict.fromkeys(reasons))
        count = counted(len(reasons), "comparison")
        yield words("in_brief", "unjudged", count=count, baseline=baseline, reasons=found)
    if alone := [group.name for group in study.shown.groups if not group.baseline]:
        yield words("in_brief", "alone", baseline=baseline, tasks=listed(alone, MOST))
    if names := [group.name for group in study.shown.groups if untaught(study, group)]:
        yield words("in_brief", "untaught", tasks=listed(names))


def _shown(study: Study, group: Group, labels: Sequence[str]) -> str:
    """The methods, the most different first, and by how much that one differs."""
    found = {label: one.found for label, one in study.gains[group].items() if isinstance(one.found, Evidence)}
    first, *others = sorted(labels, key=lambda label: -abs(float(found[label].estimate)))
    low, high = found[first].interval(LEVEL)
    compared = study.bases[group]
    gain = compared.ranged(float(found[first].estimate), float(low), float(high))
    if compared.is_ratio:
        gain += f" times the {group.metric} of `{group.baseline}`"
    else:
        gain += f" {'points of' if compared.percent else 'in'} {group.metric}"
    names = listed((f"`{label}`" for label in (first, *others)), MOST)
    return f"{names} on {group.name} ({f'`{first}` most: ' if others else ''}{gain})"


def _range(study: Study, group: Group) -> str:
    """How much the best and the least known of the methods that are not told apart may differ."""
    left = study.told[group].open
    least, most = min(left, key=lambda label: left[label]), max(left, key=lambda label: left[label])
    told = {label: how_far(study, group, left[label]) for label in dict.fromkeys((least, most))}
    points = " points" if study.bases[group].percent else ""
    ends = (f"{size}{'' if size == ANYTHING else points} (`{label}`)" for label, size in told.items())
    return f"by {' to '.join(ends)} on {group.name}"
