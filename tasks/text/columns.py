"""What the columns of a table are for, as a suite says it, and what its rows say by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from rankbench.tasks.data.divide import NAMES, Entry
from rankbench.tasks.data.lines import Row
from rankbench.tasks.data.tables import Table
from rankbench.tasks.options import TaskError, nearest
from rankbench.tasks.text import cells
from rankbench.tasks.text.labels import Labels, OneClass, Rating, SeveralClasses

Kind: TypeAlias = Literal["classification", "regression", "multi-label"]
MANY = 20
"""Classes that are fine however few rows there are."""


@dataclass(frozen=True)
class Columns:
    """The columns by their names, checked; of texts there are one or two."""

    text: tuple[str, ...]
    label: tuple[str, ...]
    kind: Kind
    labels: tuple[str, ...]
    """The classes in order; empty where the rows say which there are."""
    separator: str | None
    split: str | None
    group: str | None

    def find_labels(self, table: Table) -> Labels:
        """How labels are read, the classes being those of the training rows if none are named: in the order
        that the data set states, by size where all are numbers, else by the alphabet. Raises TaskError,
        naming a row where there is one to name."""
        if (known := self.known_labels()) is not None:
            return known
        column = self.label[0]
        if self.kind == "multi-label":
            lists = [cells.class_names(row, column, self.separator) for row in table.rows]
            found = [name for names in lists for name in names]
            if {*found} <= {"0", "1"} and any(len({*names}) < len(names) for names in lists):
                raise TaskError(
                    f"column {column!r}: its lists hold 0 and 1, more than once, for absent and present; a "
                    "list is of the names of the classes that a row has: write these, or a column of 0 and 1 "
                    "each"
                )
        else:
            found = [cells.class_name(row, column) for row in table.rows]
            _refuse_mixed(table.rows, column, found)
        stated = tuple(map(cells.spelled, table.classes.get(column, ())))
        names = stated or cells.in_order(found)
        if self.kind == "classification" and len(names) > max(MANY, len(found) // 2):
            first = ", ".join(names[:3])[: cells.LONGEST]
            raise TaskError(
                f"column {column!r}: {len(names)} classes in {len(found)} rows ({first} …); "
                "for numbers say kind: regression; if so many are meant, name them in labels"
            )
        return self._of_classes(names)

    def known_labels(self) -> Labels | None:
        """How labels are read; None where the classes have to be looked up in the rows."""
        if self.kind == "regression":
            return Rating(self.label[0])
        names = self.labels or (self.label if len(self.label) > 1 else ())
        return self._of_classes(names) if names else None

    def _of_classes(self, names: tuple[str, ...]) -> Labels:
        if len(names) < 2:
            raise TaskError(
                f"label {', '.join(self.label)}: there are two classes at least, not {list(names)}"
            )
        if self.kind == "multi-label":
            return SeveralClasses(self.label, names, self.separator)
        return OneClass(self.label[0], names)

    def entry(self, row: Row) -> Entry:
        """The row's texts and group. Raises TaskError, naming it, where one is missing."""
        group = None if self.group is None else cells.spelled(cells.cell(row, self.group))
        return Entry(tuple(cells.text(row, column) for column in self.text), group)

    def split_of(self, row: Row) -> str:
        """The split that the row says it is of. Raises TaskError, naming it, where that is none."""
        assert self.split is not None
        named = cells.spelled(cells.cell(row, self.split))
        if named.lower() not in NAMES:
            raise TaskError(
                f"{row.place}, column {self.split!r}: {named!r} is no split; {nearest(named, [*NAMES])}"
            )
        return NAMES[named.lower()]


def _refuse_mixed(rows: Sequence[Row], column: str, found: Sequence[str]) -> None:
    """1 and true, as two files joined may have them, would be two classes."""
    first: dict[bool, int] = {}
    for i, name in enumerate(found):
        if name.lower() in ("0", "1", "false", "true"):
            first.setdefault(name in "01", i)
    if len(first) == 2:
        one, other = sorted(first.values())
        raise TaskError(
            f"{rows[other].place}, column {column!r}: {found[other]} is another class than {found[one]} "
            f"({rows[one].place}); write booleans or numbers alone, or name the classes in labels"
        )


def columns(text: Any, label: Any, kind: Any, labels: Any, separator: Any, split: Any, group: Any) -> Columns:
    """As a suite says them. Raises TaskError for what cannot be meant."""
    texts, told = _names("text", text), _names("label", label)
    if len(texts) > 2:
        raise TaskError(f"text: a model takes one text or a pair, not {len(texts)}; put them into one column")
    kind = kind or ("multi-label" if len(told) > 1 else "classification")
    if kind not in get_args(Kind):
        raise TaskError(f"kind: {kind!r} is none; {nearest(str(kind), get_args(Kind))}")
    if len(told) > 1 and kind != "multi-label":
        raise TaskError(f"label: {kind} has one column of labels, not {len(told)}")
    if labels is not None and kind == "regression":
        raise TaskError("labels: regression has no classes; leave them out")
    if labels is not None and len(told) > 1:
        raise TaskError("labels: the classes are the columns of label; leave labels out")
    if separator is not None and (kind != "multi-label" or len(told) > 1):
        raise TaskError("separator: it stands between labels in one column; say kind: multi-label")
    for option, value in {"separator": separator, "split": split, "group": group}.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise TaskError(f"{option}: give a text, not {value!r}")
    names = _classes(labels) if labels is not None else ()
    return Columns(texts, told, kind, names, separator, split, group)


def _names(option: str, given: Any) -> tuple[str, ...]:
    """One column or several."""
    if given is None:
        raise TaskError(f"{option}: name the column that holds the {option}")
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TaskError(f"{option}: give a column's name or a list of them, not {given!r}")
    if len(set(names)) < len(names):
        raise TaskError(f"{option}: a column is there twice in {', '.join(names)}")
    return names


def _classes(given: Any) -> tuple[str, ...]:
    if (
        not isinstance(given, Sequence)
        or isinstance(given, str)
        or any(isinstance(e, (list, Mapping)) for e in given)
    ):
        raise TaskError(f"labels: give the classes as a list, in order, not {given!r}")
    if any(isinstance(each, bool) for each in given):
        raise TaskError(
            "labels: YAML reads yes, no, true and false as no texts; quote them, as in ['yes', 'no']"
        )
    names = tuple(map(cells.spelled, given))
    if len(set(names)) < len(names):
        raise TaskError(f"labels: a class is there twice in {', '.join(names)}")
    return names
