"""The same methods in other records, of more seeds for instance: what those say, and whether these agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rankbench.bench.records import RunRecord
from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Block, Section, Table
from rankbench.reports.render.numbers import MISSING, plain
from rankbench.reports.render.words import words
from rankbench.reports.sections.in_brief.questions import questions
from rankbench.reports.sections.leaderboard import heading, standing
from rankbench.reports.sections.verdicts import title
from rankbench.reports.study import Study


def section(study: Study) -> Section | None:
    """The answers that those records give, and a row for each method that both have with the same settings
    under the same protocol; None where no other records were asked for."""
    if (other := study.beside) is None:
        return None
    name = other.suite.name
    blocks: list[Block] = [words("beside", name=name, runs=len(other.shown.records))]
    if answers := [*questions(other, title)]:
        blocks += [words("beside", "answers", name=name), "\n".join(f"- {answer}" for answer in answers)]
    if rows := [*_rows(study, other)]:
        header = ["task", "method", "here", f"in {name}", "same seed, largest difference"]
        blocks += [words("beside", "rows"), Table(header, rows, words=2)]
    else:
        blocks.append(words("beside", "nothing_alike", name=name))
    return Section(f"Beside {name}", blocks)


def _rows(study: Study, other: Study) -> Iterator[list[str]]:
    for here in study.shown.groups:
        for there in (group for group in other.shown.groups if group.protocol == here.protocol):
            known = {str(one.given): label for label, one in there.contenders.items()}
            for label, one in here.contenders.items():
                if (same := known.get(str(one.given))) is not None:
                    yield [
                        f"{here.name}: {heading(here)}",
                        label,
                        standing(here, study.standings[here].get(label)),
                        standing(there, other.standings[there].get(same)),
                        _apart(here, here.runs[label], there.runs[same]),
                    ]


def _apart(group: Group, here: Mapping[int, RunRecord], there: Mapping[int, RunRecord]) -> str:
    """Of the main metric, over the seeds of both."""
    found = [
        abs(run.metrics.best[group.metric] - there[seed].metrics.best[group.metric])
        for seed, run in here.items()
        if seed in there
    ]
    return plain(max(found), group.scale.percent) if found else MISSING
