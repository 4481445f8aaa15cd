"""Under which protocol each task was run: its fields × tasks; what all share is told once."""

from __future__ import annotations

from collections.abc import Iterator

from rankbench.reports.frames import Group, Suite
from rankbench.reports.render.blocks import Block, Section, Table
from rankbench.reports.render.markdown import literal
from rankbench.reports.render.numbers import MISSING, short_hashes
from rankbench.reports.stats.trials import SUFFIX
from rankbench.reports.study import Study


def section(study: Study) -> Section | None:
    """Of every result, a sweep's trials included; of a suite's own trials, in what they differ."""
    groups = study.suite.groups
    fields = sorted({field for group in groups for field in group.protocol})
    rows = [[field, *(_told(group, field) for group in groups)] for field in fields]
    parts: list[Block] = ["Two runs whose protocols differ never share a column above."]
    parts += [text for group in groups for text in _short_splits(group)]
    parts += _of_trials(study.suite)
    if len(groups) > 1 and (shared := [f"{row[0]} {row[1]}" for row in rows if len({*row[1:]}) == 1]):
        rows = [row for row in rows if len({*row[1:]}) > 1]
        parts.append(f"Of all tasks: {'; '.join(shared)}.")
    if rows:
        parts.append(Table(["field", *(group.name for group in groups)], rows, words=1 + len(groups)))
    return Section("Protocol", parts) if groups else None


def _told(group: Group, field: str) -> str:
    return literal(short_hashes(group.protocol.get(field, MISSING)))


def _short_splits(group: Group) -> list[str]:
    """What was asked of splits that have fewer items: the protocol holds what was used."""
    asked = {
        (split, wanted, used)
        for record in group.records
        for split, used in record.protocol.get("sizes", {}).items()
        if isinstance(wanted := group.task_settings.get("options", {}).get(split), int) and wanted > used
    }
    return [
        f"`{group.name}` was asked for {wanted} {split} items and has {used}: all were used."
        for split, wanted, used in sorted(asked)
    ]


def _of_trials(suite: Suite) -> Iterator[str]:
    """Beside the first protocol of the experiment that they chose for."""
    first = {group.task: group for group in reversed(suite.groups)}
    for trials in suite.trials:
        if run := first.get(trials.task.removesuffix(SUFFIX)):
            differing = [
                f"{field} {_told(trials, field)}"
                for field in sorted({*trials.protocol, *run.protocol})
                if trials.protocol.get(field) != run.protocol.get(field)
            ]
            yield f"The trials of `{run.task}` had this protocol, but {', '.join(differing)}."
