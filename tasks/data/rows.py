"""One split of a data set as it was read: its columns, checked, and how a message names a row."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankbench.tasks.options import TaskError

if TYPE_CHECKING:
    from datasets import Dataset


ANY = (-math.inf, math.inf)
"""The span of ratings without a limit."""


@dataclass(frozen=True)
class Rows:
    """`data` is the split `split` of `origin`, or of the files that it was read from, in order."""

    data: Dataset
    split: str
    origin: str
    files: tuple[tuple[Path, int], ...] = ()
    """Each file with its number of rows."""

    def where(self, row: int) -> str:
        """File (or data set), split and row, counted from 0 within the file."""
        for path, count in self.files:
            if row < count:
                return f"{path}, split {self.split}, row {row}"
            row -= count
        return f"{self.origin}, split {self.split}, row {row}"

    def column(self, name: str) -> list[Any]:
        """All values. Raises TaskError where there is no such column."""
        if name not in self.data.column_names:
            source = self.files[0][0] if self.files else self.origin
            there = ", ".join(self.data.column_names)
            raise TaskError(f"{source}, split {self.split}: there is no column {name!r}, only {there}")
        return list(self.data[name])

    def checked(self, name: str, fault: Callable[[Any], str | None]) -> list[Any]:
        """A column of values without a fault. Raises TaskError for the first that has one, naming file,
        split, row and column."""
        values = self.column(name)
        for row, value in enumerate(values):
            if what := fault(value):
                raise TaskError(f"{self.where(row)}, column {name!r}: {what}")
        return values

    def texts(self, name: str) -> list[str]:
        """A column of texts, empty ones among them. Raises TaskError for a null or another kind of value."""
        return self.checked(name, lambda value: None if isinstance(value, str) else f"{value!r} is no text")

    def choices(self, name: str) -> list[Any]:
        """A column of one or more choices. Raises TaskError where one is null, or there are none."""
        return self.checked(name, lambda value: f"{value!r} lacks a choice" if _lacks(value) else None)

    def answers(self, name: str, known: tuple[Any, ...]) -> list[Any]:
        """A column of right answers, each one of `known` if that is not empty. Raises TaskError where one
        is hidden (null, empty or -1) or unknown."""

        def fault(value: Any) -> str | None:
            if _lacks(value) or value == -1 or not str(value).strip():
                return f"the answer {value!r} is hidden; use a split that has it"
            if known and not any(value == each and type(value) is type(each) for each in known):
                return f"the answer {value!r} is none of {', '.join(map(repr, known))}"
            return None

        return self.checked(name, fault)

    def classes(self, name: str) -> list[str]:
        """The names of a column's classes, in the order of their numbers; none where it has no names."""
        return list(getattr(self.data.features.get(name), "names", None) or [])

    def ids(self, name: str) -> list[str]:
        """A column that names each row, or the row's number where there is none."""
        named = self.data[name] if name in self.data.column_names else range(len(self.data))
        return [str(value) for value in named]


def label_fault(label: Any, classes: int | None, span: tuple[float, float] = ANY) -> str | None:
    """What is wrong with a class (0 … classes-1) or, without classes, a rating (finite, within `span`)."""
    number = isinstance(label, numbers.Real) and math.isfinite(label)
    if classes is None:
        low, high = span
        fine = number and low <= label <= high
        what = f"is outside {low:g} to {high:g}" if number else "is no finite number"
    else:
        fine = number and label in range(classes)
        hidden = " (hidden, as in a test split?)" if label in (-1, None, "") else ""
        what = f"is none of the classes 0 to {classes - 1}{hidden}"
    return None if fine else f"label {label!r} {what}"


def check_items(
    task: str, split: str, ids: Sequence[str], labels: Iterable[Any], classes: int | None
) -> None:
    """Raise TaskError for the first label that a head of `classes` outputs cannot learn, and where two
    items that are scored have one name: runs are paired by it."""
    for item, label in zip(ids, labels, strict=True):
        if fault := label_fault(label, classes):
            raise TaskError(f"{task}: split {split}, item {item}: {fault}")
    item, count = Counter(ids).most_common(1)[0]
    if count > 1 and split != "train":
        raise TaskError(f"{task}: split {split}: {count} items are named {item!r}; give each its own `idx`")


def _lacks(value: Any) -> bool:
    """Whether a null or an empty list is in it, however deep."""
    if isinstance(value, dict):
        return any(map(_lacks, value.values()))
    if isinstance(value, list):
        return not value or any(map(_lacks, value))
    return value is None or (isinstance(value, float) and math.isnan(value))
