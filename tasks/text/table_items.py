"""The items of a table's splits, read once for all runs that share the data."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from rankbench.tasks.data.divide import Divided, Entry, divide
from rankbench.tasks.data.lines import Row
from rankbench.tasks.data.tables import Mirror, Source, Table, pin, read
from rankbench.tasks.options import Sizes, TaskError
from rankbench.tasks.text.cells import shown
from rankbench.tasks.text.columns import Columns
from rankbench.tasks.text.encoder import Item, Items
from rankbench.tasks.text.labels import MOST_SHOWN, Labels, Rating, classes_of

LEAST = {"train": 3, "test": 1}
"""Items of a class that rows alone have named, below which a user is told of it."""


@dataclass(frozen=True)
class Loaded:
    """A table's items, and what their labels mean."""

    labels: Labels
    items: Items


def load(sources: tuple[tuple[str, Source], ...], columns: Columns, sizes: Sizes, mirror: Mirror) -> Loaded:
    """All splits, cut to size. Raises TaskError, naming the row, for one that cannot be used, and where a
    split is empty."""
    contents = json.dumps([pin(source, mirror) for _, source in sources])
    return _load(sources, columns, sizes, None if mirror is None else str(mirror), contents)


@functools.lru_cache(maxsize=4)
def _load(
    sources: tuple[tuple[str, Source], ...],
    columns: Columns,
    sizes: Sizes,
    mirror: str | None,
    _contents: str,
) -> Loaded:
    read_tables = {split: read(source, mirror) for split, source in sources}
    rows = _rows(columns, read_tables)
    labels = columns.find_labels(Table(rows["train"], read_tables["train"].classes))
    given = {split: [labels.of(row) for row in each] for split, each in rows.items()}
    entries = {split: [columns.entry(row) for row in each] for split, each in rows.items()}
    divided = divide(entries, asdict(sizes))
    for split, chosen in divided.rows.items():
        if not chosen:
            groups = {entry.group for entry in entries["train"]} - {None}
            raise TaskError(_empty(split, divided, rows, len(groups)))
    items = {
        split: [
            Item(str(rows[origin][i].number), entry.texts, given[origin][i], entry.group)
            for origin, i in chosen
            for entry in [entries[origin][i]]
        ]
        for split, chosen in divided.rows.items()
    }
    learned = {item.label for item in items["train"]}
    if len(learned) == 1:
        raise TaskError(
            f"label {', '.join(columns.label)}: all {len(items['train'])} training items have the same, so "
            "that nothing can be learned; add rows, or raise the size of train"
        )
    if isinstance(labels, Rating):
        labels = labels.standardised(item.label for item in items["train"])
    told = []
    if columns.known_labels() is None and not read_tables["train"].classes.get(columns.label[0]):
        told += _rare(labels.names, items)
    if columns.group is None and (texts := _texts(items["test"])):
        items["test"] = [replace(item, group=key) for item, key in zip(items["test"], texts, strict=True)]
        told.append(
            f"test: {len(texts)} items have {len({*texts})} different texts; intervals count texts, not items"
        )
    return Loaded(labels, Items(items, divided.dropped, tuple(told)))


def _rare(names: Sequence[str], items: Mapping[str, Sequence[Item]]) -> list[str]:
    """Of classes that rows alone have named: those that may be a slip, or that no test item has."""
    notes = []
    for split, least in LEAST.items():
        counts = Counter(number for item in items[split] for number in classes_of(item.label))
        few = [f"{shown(name)} ({counts[i]})" for i, name in enumerate(names) if counts[i] < least]
        if few:
            which = ", ".join(few[:MOST_SHOWN]) + (", …" if len(few) > MOST_SHOWN else "")
            notes.append(
                f"{split}: of {len(items[split])} items hardly any has the class {which}; a slip? mend it, "
                "or name the classes in labels"
            )
    return notes


def _texts(items: list[Item]) -> list[str]:
    """Which text each has, if any two have the same: they are no independent draws. Else none."""
    keys = [Entry(item.texts, item.group).key for item in items]
    return keys if len({*keys}) < len(keys) else []


def _rows(columns: Columns, given: dict[str, Table]) -> dict[str, list[Row]]:
    """By split, as they were given: a file each, or dealt out by a column of the one file."""
    if columns.split is None:
        return {split: table.rows for split, table in given.items()}
    dealt: dict[str, list[Row]] = {"train": []}
    for row in given["train"].rows:
        dealt.setdefault(columns.split_of(row), []).append(row)
    if not dealt["train"]:
        raise TaskError(f"column {columns.split!r}: no row says train; {len(given['train'].rows)} say others")
    return dealt


def _empty(split: str, divided: Divided, rows: dict[str, list[Row]], groups: int) -> str:
    count = sum(map(len, rows.values()))
    left_out = f", and {divided.dropped} are left out because a split beside has their text or group"
    if split in rows:
        why = f"the {split} split is empty: of {count} rows {len(rows[split])} are of it"
    else:
        why = f"no row falls into the {split} split, which a hash carves out of {len(rows['train'])}"
        why += f" in {groups} groups" if groups else ""
    more = "groups" if groups and split not in rows else "rows"
    return f"{why}{left_out if divided.dropped else ''}; add {more}, or name a file for it"
