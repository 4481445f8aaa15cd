"""What a paper's figure shows, in one paragraph: its numbers where they were found, and what was not."""

from __future__ import annotations

from collections.abc import Sequence

from rankbench.reports.claims.published import Paper, Row, Table
from rankbench.reports.claims.reproductions import ANY_TASK, NOT_STATED, TASKS, same_model
from rankbench.reports.frames import Group
from rankbench.reports.frames.contender import NO_MODEL
from rankbench.reports.render.numbers import number

HANDS = {"first": "first-hand", "second": "second-hand"}
UNITS = {"percent": " %", "millions": " million"}
"""Of the numbers whose metric does not say it."""


def tables_of(papers: Sequence[Paper], paper: str, *names: str) -> list[Table]:
    """A paper's tables and figures of these names, in the order of the names."""
    return [
        found
        for name in names
        for each in papers
        if each.name == paper
        for found in each.tables
        if found.table == name
    ]


def quoted(tables: Sequence[Table]) -> str:
    """A paragraph a table; empty where there is none."""
    return "\n\n".join(_quoted(found) for found in tables)


def setting(tables: Sequence[Table], model: str, task: str, kind: str | None) -> str:
    """What is known to differ here: the model, and the task, which is called `task` and of the registered
    `kind`."""
    models = dict.fromkeys(found.model for found in tables if found.model != NOT_STATED)
    differing = [f"model: {other}, ours {model}" for other in models if not same_model(other, model)]
    columns = (column.partition(", ")[0] for found in tables for column in found.columns)
    tasks = dict.fromkeys(column for column in columns if column not in ANY_TASK)
    differing += [f"task: {other}, ours {task}" for other in tasks if TASKS.get(other, other) != kind]
    return f"What differs: {'; '.join(differing)}." if differing else ""


def group_setting(tables: Sequence[Table], group: Group) -> str:
    """What is known to differ from the runs of a group."""
    return setting(tables, group.protocol["model"], group.task, group.kind)


def value_of(tables: Sequence[Table], method: str) -> float | None:
    """The one number that the tables give for a method; None where they give none or several."""
    found = [
        value for each in tables for row in each.rows if row.method == method for value in row.values.values()
    ]
    return found[0] if len(found) == 1 else None


def _quoted(found: Table) -> str:
    model = "" if found.model == NO_MODEL else f"{found.model}; "
    parts = [f"In the paper, {found.table} ({model}{HANDS[found.hand]}):"]
    parts += ["; ".join(_numbers(found, row) for row in found.rows) + "."] if found.rows else []
    parts += [f"Note: {found.note}."] if found.note else []
    parts += [f"Not found: {found.missing}."] if found.missing else []
    return " ".join(parts)


def _numbers(found: Table, row: Row) -> str:
    rank = f" (rank {row.rank})" if row.rank else ""
    unit = UNITS.get(found.unit, "")
    values = [
        f"{found.columns[column].replace('_', ' ')} {number(value)}{unit}"
        + (f", {number(row.recomputed[column])} by its cells" if column in row.recomputed else "")
        + f" ({column})"
        for column, value in row.values.items()
    ]
    for column, matrices in row.ranks.items():
        left = [rank for ranks in matrices.values() for rank in ranks]
        values.append(f"{found.columns[column]} {sum(left)} in {len(left)} matrices ({column})")
    return f"{row.method}{rank}: {', '.join(values)}"
