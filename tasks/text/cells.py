"""What stands in the cells of a table. Everything here raises TaskError, naming row and column, where a cell
is not what it is read as."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from rankbench.tasks.data.lines import Row, is_missing
from rankbench.tasks.options import TaskError

OFF, ON = ("0", "false", "no"), ("1", "true", "yes")
LONGEST = 60
"""Signs of a value that a message shows: a column of texts may stand where labels are meant."""


def shown(value: Any) -> str:
    """The value as Python writes it, cut where it is long."""
    written = repr(value)
    return written if len(written) <= LONGEST else f"{written[:LONGEST]}…"


def cell(row: Row, column: str) -> Any:
    """What stands there; something has to."""
    value = row.cell(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise TaskError(f"{row.place}, column {column!r}: it is empty; fill it or leave the row out")
    return value


def class_name(row: Row, column: str) -> str:
    """A class as a name: 4, 4.0 and " 4 " are one."""
    value = cell(row, column)
    if isinstance(value, (list, dict)):
        raise TaskError(
            f"{row.place}, column {column!r}: {shown(value)} is no class; of lists say kind: multi-label"
        )
    return spelled(value)


def class_names(row: Row, column: str, separator: str | None) -> list[str]:
    """The names in a column of several, none where it holds an empty text or list."""
    value = cell(row, column) if row.values.get(column) != "" else []
    if isinstance(value, str):
        if separator is None:
            raise TaskError(
                f"{row.place}, column {column!r}: {shown(value)} is a text; say what stands between two "
                "labels, as in separator: ';'"
            )
        value = value.split(separator)
    if not isinstance(value, list):
        raise TaskError(f"{row.place}, column {column!r}: {shown(value)} is no list of labels")
    for each in value:
        if is_missing(each) or isinstance(each, (list, dict)):
            raise TaskError(
                f"{row.place}, column {column!r}: {shown(each)} is no label; mend it or leave it out"
            )
    return [name for name in map(spelled, value) if name]


def spelled(value: Any) -> str:
    """A label as a text, in Unicode's composed form: "é" may be stored as one sign or as two."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return re.sub(r"^(-?\d+)\.0+$", r"\1", unicodedata.normalize("NFC", str(value)).strip())


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each once, by size where all are numbers, else by the alphabet."""
    distinct = sorted(set(names))
    try:
        return tuple(sorted(distinct, key=float))
    except ValueError:
        return tuple(distinct)


def switch(row: Row, column: str) -> float:
    """1 or 0, as spreadsheets and JSON write them."""
    value = spelled(cell(row, column)).lower()
    if value not in (*ON, *OFF):
        raise TaskError(f"{row.place}, column {column!r}: {shown(value)} is neither 0 nor 1")
    return float(value in ON)


def text(row: Row, column: str) -> str:
    """A text; it may be empty."""
    value = row.cell(column)
    if not isinstance(value, str):
        raise TaskError(
            f"{row.place}, column {column!r}: {shown(value)} is no text; mend it or leave the row out"
        )
    return value
