"""One split of a data set as it was read: its columns, checked, and how a message names a row."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankbench.tasks.errors import TaskError

if TYPE_CHECKING:
    from datasets import Dataset


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

    def fault(self, row: int, name: str, what: str) -> TaskError:
        """The error that names file, split, row and column."""
        return TaskError(f"{self.where(row)}, column {name!r}: {what}")

    def texts(self, name: str) -> list[str]:
        """A column of texts, empty ones among them. Raises TaskError for a null or another kind of value."""
        values = self.column(name)
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise self.fault(row, name, f"{value!r} is no text")
        return values

    def choices(self, name: str) -> list[Any]:
        """A column of one or more choices. Raises TaskError where one is null, or there are none."""
        values = self.column(name)
        for row, value in enumerate(values):
            if _lacks(value):
                raise self.fault(row, name, f"{value!r} lacks a choice")
        return values

    def answers(self, name: str, known: tuple[Any, ...]) -> list[Any]:
        """A column of right answers, each one of `known` if that is not empty. Raises TaskError where one
        is hidden (null, empty or -1) or unknown."""
        values = self.column(name)
        for row, value in enumerate(values):
            if _lacks(value) or value == -1 or not str(value).strip():
                raise self.fault(row, name, f"the answer {value!r} is hidden; use a split that has it")
            if known and not any(value == each and type(value) is type(each) for each in known):
                choices = ", ".join(map(repr, known))
                raise self.fault(row, name, f"the answer {value!r} is none of {choices}")
        return values

    def labels(self, name: str, classes: int | None, span: tuple[float, float]) -> list[float]:
        """A column of classes, or of ratings where `classes` is None. Raises TaskError as `label_fault`."""
        values = self.column(name)
        for row, value in enumerate(values):
            if fault := label_fault(value, classes, span):
                raise self.fault(row, name, f"label {value!r} {fault}")
        return values

    def classes(self, name: str) -> list[str]:
        """The names of a column's classes, in the order of their numbers; none where it has no names."""
        return list(getattr(self.data.features.get(name), "names", None) or [])

    def ids(self, name: str) -> list[str]:
        """A column that names each row, or the row's number where there is none."""
        named = self.data[name] if name in self.data.column_names else range(len(self.data))
        return [str(value) for value in named]


def label_fault(label: Any, classes: int | None, span: tuple[float, float]) -> str | None:
    """What is wrong with a class (0 … classes-1), or with a rating (finite, within `span`), if anything."""
    number = isinstance(label, numbers.Real) and math.isfinite(label)
    if classes is None:
        low, high = span
        if not number:
            return "is no finite number"
        return None if low <= label <= high else f"is outside {low:g} to {high:g}"
    if number and label in range(classes):
        return None
    hidden = " (hidden, as in a test split?)" if label in (-1, None, "") else ""
    return f"is none of the classes 0 to {classes - 1}{hidden}"


def check_items(
    task: str, split: str, ids: Sequence[str], labels: Iterable[Any], classes: int | None
) -> None:
    """Raise TaskError for the first label that a head of `classes` outputs cannot learn, and where two
    items that are scored have one name: runs are paired by it."""
    for item, label in zip(ids, labels, strict=True):
        if fault := label_fault(label, classes, (-math.inf, math.inf)):
            raise TaskError(f"{task}: split {split}, item {item}: label {label!r} {fault}")
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
