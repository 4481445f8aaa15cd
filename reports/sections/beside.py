"""The same methods in other records, of more seeds for instance: what those say, and whether these agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from rankbench.bench.records import RunRecord
from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Block, Section, Table
from rankbench.reports.render.numbers import MISSING, plain
from rankbench.reports.render.words import listed, words
from rankbench.reports.sections.in_brief.questions import questions
from rankbench.reports.sections.leaderboard import heading, standing
from rankbench.reports.sections.verdicts import title
from rankbench.reports.stats.evidence import counted
from rankbench.reports.study import Study


def section(study: Study) -> Section | None:
    """The answers that those records give, and a row for each method that both have with the same settings
    under the same protocol; None where no other records were asked for."""
    if (other := study.beside) is None:
        return None
    suites = listed(f"`{name}`" for name in dict.fromkeys(record.suite for record in other.shown.records))
    runs = counted(len(other.shown.records), "run")
    blocks: list[Block] = [words("beside", runs=f"{runs} of {suites}" if suites else runs)]
    if answers := [*questions(other, title)]:
        blocks += [words("beside", "answers"), "\n".join(f"- {answer}" for answer in answers)]
    if rows := [*_rows(study, other)]:
        header = ["task", "method", "here", "there", "same seed, largest difference"]
        blocks += [words("beside", "rows"), Table(header, rows, words=2)]
    else:
        blocks.append(words("beside", "nothing_alike"))
    return Section("Beside other records", blocks)


def _rows(study: Study, other: Study) -> Iterator[list[str]]:
    for here, there in product(study.shown.groups, other.shown.groups):
        if _asked(here) != _asked(there):
            continue
        for (label, one), (same, twin) in product(here.contenders.items(), there.contenders.items()):
            if one.given == twin.given:
                yield [
                    f"{here.name}: {heading(here)}",
                    label if label == same else f"{label} (there {same})",
                    standing(here, study.standings[here].get(label)),
                    standing(there, other.standings[there].get(same)),
                    _apart(here, here.runs[label], there.runs[same]),
                ]


def _asked(group: Group) -> tuple[object, ...]:
    """What a group's numbers are of, whatever packages and devices made them, by which a folder that mixes
    those divides its groups."""
    record = group.record
    return record.model, record.protocol, record.metrics.main


def _apart(group: Group, here: Mapping[int, RunRecord], there: Mapping[int, RunRecord]) -> str:
    """Of the main metric, over the seeds of both."""
    found = [
        abs(run.metrics.best[group.metric] - there[seed].metrics.best[group.metric])
        for seed, run in here.items()
        if seed in there
    ]
    return plain(max(found), group.scale.percent) if found else MISSING
