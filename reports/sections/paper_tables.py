"""The papers' tables with our rows below theirs: one table a benchmark, in the papers' columns."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence

from rankbench.bench.records import RunRecord
from rankbench.reports.claims.published import Paper, Row
from rankbench.reports.claims.published import Table as Printed
from rankbench.reports.claims.reproductions import METHODS, TASKS, Reproduction
from rankbench.reports.frames import Contender, Suite
from rankbench.reports.render.blocks import Folded, Section, Table
from rankbench.reports.render.numbers import MISSING, number, score
from rankbench.reports.render.words import words
from rankbench.reports.stats.summary import spread
from rankbench.reports.study import Study

Columns = tuple[str, ...]
BENCHMARKS: dict[str, Columns] = {
    "GLUE": ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE"),
    "Commonsense reasoning": ("BoolQ", "PIQA", "SIQA", "HellaSwag", "WinoGrande", "ARC-e", "ARC-c", "OBQA"),
    "Mathematics": ("GSM8K", "MATH"),
}
"""Benchmark -> the columns that a table of the papers has for it."""
SAME_COLUMN = {"MNLI-m": "MNLI"}
AVERAGE = "Avg"
HERE = "here"


def section(study: Study) -> Section | None:
    """A table for every benchmark of which the suite has a task."""
    if not study.judges_papers:
        return None
    parts = [part for benchmark in BENCHMARKS.items() if (part := _part(*benchmark, study))]
    average = Folded("How rows are averaged", [words("paper_tables", "average")])
    return Section("The papers' tables", [words("paper_tables"), average, *parts]) if parts else None


def _part(name: str, columns: Columns, study: Study) -> Section | None:
    own = list(_own_rows(columns, study.shown))
    if not own:
        return None
    theirs = list(_tables(columns, study.papers))
    header = ["from", "method", "rank", "model", *columns, "average"]
    rows = [_their_row(columns, *each, row) for each in theirs for row in _rows(*each)]
    notes = [_beside(paper, found, study.reproductions) for paper, found in theirs]
    notes += [_recomputed(paper, found, row) for paper, found in theirs for row in _rows(paper, found)]
    notes += [
        f"{paper.name}, {found.table} ({found.model}), not found: {found.missing}."
        for paper, found in theirs
        if found.missing
    ]
    return Section(name, [Table(header, [*rows, *own], words=4), *filter(None, notes)])


def _tables(wanted: Columns, papers: Sequence[Paper]) -> Iterator[tuple[Paper, Printed]]:
    """The published tables that have every column of a benchmark, the claiming papers' first."""
    for role in ("claims", "baseline"):
        for paper in papers:
            for found in paper.tables:
                printed = {SAME_COLUMN.get(column, column) for column in found.columns}
                if paper.role == role and printed >= {*wanted}:
                    yield paper, found


def _rows(paper: Paper, found: Printed) -> list[Row]:
    return [row for row in found.rows if paper.role == "claims" or row.method in METHODS]


def _their_row(wanted: Columns, paper: Paper, found: Printed, row: Row) -> list[str]:
    values = {SAME_COLUMN.get(column, column): value for column, value in row.values.items()}
    printed = [value for column, value in row.values.items() if column.startswith(AVERAGE)]
    scores = [values[column] for column in wanted if column in values]
    average = statistics.fmean(scores) if len(scores) == len(wanted) else next(iter(printed), None)
    name = row.method if row.rank or not row.parameters else f"{row.method} ({row.parameters})"
    return [
        f"{paper.name}, {found.table}",
        name,
        MISSING if row.rank is None else str(row.rank),
        found.model,
        *(f"{values[column]:.2f}" if column in values else MISSING for column in wanted),
        MISSING if average is None else f"{average:.2f}",
    ]


def _recomputed(paper: Paper, found: Printed, row: Row) -> str:
    """An average that does not follow from the row it stands in."""
    both = [
        f"the {column} printed for {row.method} is {row.values[column]:.2f}, where its cells give "
        f"{value:.2f} by the paper's own rule"
        for column, value in row.recomputed.items()
    ]
    return f"{paper.name}, {found.table}: {'; '.join(both)}." if both else ""


def _own_rows(wanted: Columns, suite: Suite) -> Iterator[list[str]]:
    """A row for each model, method and protocol; one more where a suite has a task twice."""
    tasks = {TASKS[column]: column for column in wanted if column in TASKS}
    cells: dict[tuple[str, str, str], dict[str, list[RunRecord]]] = defaultdict(dict)
    for group in suite.groups:
        column = tasks.get(group.kind or "")
        if column is None or group.is_rank_sweep:
            continue
        for label, runs in group.runs.items():
            model = group.record.model
            taken = column in cells[model, label, group.letter]
            cells[model, label, group.name if taken else group.letter][column] = [*runs.values()]
    for (model, label, which), by_column in cells.items():
        found = {
            column: spread(run.metrics.best[run.metrics.main] for run in runs)
            for column, runs in by_column.items()
        }
        means = [value.mean for value in found.values() if value]
        ranks = {run.rank: Contender(run).ranks for runs in by_column.values() for run in runs if run.rank}
        yield [
            f"{HERE} ({which})" if which else HERE,
            label,
            " / ".join(ranks[rank] for rank in sorted(ranks)) or MISSING,
            model,
            *(score(found.get(column), fraction=True) for column in wanted),
            f"{100 * statistics.fmean(means):.2f}" if len(means) == len(wanted) else MISSING,
        ]


def _beside(paper: Paper, found: Printed, compared: Sequence[Reproduction]) -> str:
    """How ours stand to a published table: the verdicts, and the fields that differ."""
    own = [
        each
        for each in compared
        if (each.figure.name, each.figure.table, each.figure.model) == (paper.name, found.table, found.model)
    ]
    if not own:
        return ""
    verdicts = dict.fromkeys(each.outcome.value for each in own)
    differing = dict.fromkeys(field.partition(":")[0] for each in own for field in each.differing)
    unknown = dict.fromkeys(field for each in own for field in each.unknown if field not in differing)
    sentence = f"Ours beside {paper.name}, {found.table} ({found.model}): {', '.join(verdicts)}"
    sentence += f", in {', '.join(differing)}" if differing else ""
    sentence += f"; not known of theirs: {', '.join(unknown)}" if unknown else ""
    return (
        f"{sentence}. {number(len(own))} figures, one by one under [Beside the papers' figures](#published)."
    )
