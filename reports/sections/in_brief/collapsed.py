"""Runs that score no better than an answer that looks at no item: a mean over seeds hides them."""

from __future__ import annotations

from collections.abc import Iterator

from rankbench.reports.frames import Group
from rankbench.reports.render.words import listed, words
from rankbench.reports.sections.leaderboard import untaught
from rankbench.reports.study import Study

MOST = 6
"""Methods that a task's part of the line lists."""


def collapsed(study: Study) -> Iterator[str]:
    """A line on such runs, task by task; of a task that taught no method anything another line tells."""
    told = [found for group in study.shown.groups if not untaught(study, group) and (found := _told(group))]
    if told:
        yield words("in_brief", "collapsed", found=". ".join(told))


def _told(group: Group) -> str:
    """Which methods score so with every seed, and which with how many."""
    counts = {label: sum(_no_better(group, label)) for label in group.runs}
    every = [label for label, count in counts.items() if count == len(group.runs[label])]
    some = {label: count for label, count in counts.items() if 0 < count < len(group.runs[label])}
    parts = [f"every run of {listed([f'`{label}`' for label in every], MOST)}"] if every else []
    if some:
        seeds = [f"`{label}` ({count} of {len(group.runs[label])})" for label, count in some.items()]
        parts.append(f"some of {listed(seeds, MOST)}")
    return f"On {group.name} {' and '.join(parts)}" if parts else ""


def _no_better(group: Group, label: str) -> Iterator[bool]:
    """Of each of the method's runs; nothing where it is not known what such an answer reaches."""
    if (constant := group.constant_score) is not None:
        for record in group.runs[label].values():
            score = record.metrics.best[group.metric]
            yield score >= constant if group.lower_is_better else score <= constant
