"""The papers' figures one by one, each with all that its table says of how it was made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rankbench.reports.claims.published import Hand, Paper, Protocol, Role, Row, Table


@dataclass(frozen=True)
class PublishedValue:
    """One published number."""

    name: str
    role: Role
    table: str
    model: str
    method: str
    rank: int | None
    task: str
    metric: str
    value: float
    spread: float | None
    unit: str
    hand: Hand
    source: str
    protocol: Protocol
    settings: dict[str, int | list[str]] = field(default_factory=dict)


def values_of(paper: Paper) -> Iterator[PublishedValue]:
    """A paper's numbers one by one, in file order."""
    for table in paper.tables:
        for row in table.rows:
            for column, metric, value in _cells(table, row):
                shared = table.by_column.get(column, Protocol()).over(table.protocol)
                yield PublishedValue(
                    name=paper.name,
                    role=paper.role,
                    table=table.table,
                    model=table.model,
                    method=row.method,
                    rank=row.rank,
                    task=column.partition(", ")[0],
                    metric=metric,
                    value=value,
                    spread=row.spreads.get(column),
                    settings=row.settings,
                    unit=table.unit,
                    hand=table.hand,
                    source=table.source,
                    protocol=row.protocol.over(shared),
                )


def _cells(table: Table, row: Row) -> Iterator[tuple[str, str, float]]:
    """Column, metric and value of each number of a row."""
    for column, value in row.values.items():
        yield column, table.columns[column], value
    for column, matrices in row.ranks.items():
        for matrix, left in matrices.items():
            for layer, rank in enumerate(left):
                yield column, f"{table.columns[column]}, layer {layer}, {matrix}", rank


def same_model(published: str, ours: str) -> bool:
    """Whether a paper's name of a model and ours (a hub id, say) mean the same."""
    return _plain(published) == _plain(ours)


def _plain(name: str) -> str:
    last = name.rpartition("/")[2].lower()
    return "".join(letter for letter in last if letter.isalnum()).removeprefix("meta").removesuffix("hf")
