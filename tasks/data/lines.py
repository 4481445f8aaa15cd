"""Rows of a text file, CSV, TSV or JSON Lines, each with the line that it begins on."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rankbench.tasks.data.files import POINTER, refuse_twice
from rankbench.tasks.options import TaskError, nearest


class Row(NamedTuple):
    """One row of a table."""

    values: dict[str, Any]
    """By column; a cell of CSV and TSV is a text."""
    place: str
    """Where it stands, file and line or row, for messages."""
    number: int
    """Of the line that it begins on, or of the row in its data set, from 1."""

    def cell(self, column: str) -> Any:
        """What stands there; None where nothing does, for which a column of numbers has NaN. Raises
        TaskError, with the nearest name, where the row has no such column."""
        if column not in self.values:
            raise TaskError(f"{self.place}: there is no column {column!r}; {nearest(column, [*self.values])}")
        value = self.values[column]
        return None if is_missing(value) else value


def is_missing(value: Any) -> bool:
    """Whether it stands for no value: null, or the NaN that is its own in a column of numbers."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def read_delimited(path: Path) -> list[Row]:
    """Rows of a CSV or TSV file with a header, as RFC 4180 and spreadsheets write it: quotes, any newline, a
    byte order mark. A CSV file whose header has a semicolon or a tab, and no comma, is divided by those.

    Raises TaskError, naming the line, for a row with more or fewer cells than the header, an unclosed quote,
    a quote in a TSV file that swallows rows, and bytes that are no text.
    """
    text = _text(path)
    mark = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text)
    lines = _cells(path, csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))
    header_line, header = next(lines, (1, []))
    header = [name.strip() for name in header]
    refuse_twice(f"{path}, line {header_line}", header)
    rows = []
    for number, cells in lines:
        place = f"{path}, line {number}"
        if len(cells) != len(header):
            raise TaskError(
                f"{place}: {len(cells)} cells, but the header names {len(header)} columns; "
                f'put a text that holds {mark!r}, a quote or a newline in quotes ("…", "" for a quote)'
            )
        if mark == "\t" and any(_swallows(cell, len(cells) - 1) for cell in cells):
            raise TaskError(
                f"{place}: the quote that a cell begins with is closed rows below; "
                'put the cell in quotes and write a quote within it as "", or save the table as JSON Lines'
            )
        rows.append(
            Row({name: cell for name, cell in zip(header, cells, strict=True) if name}, place, number)
        )
    return rows


def _swallows(cell: str, tabs: int) -> bool:
    """Whether a cell holds whole rows: many TSV files know no quotes, so that one begins a text. A text of
    two lines may hold a tab itself, so that one row alone cannot be told."""
    within = re.split("\r\n|\r|\n", cell)[1:-1]
    return bool(tabs and within) and all(line.count("\t") == tabs for line in within)


def _delimiter(text: str) -> str:
    header = next(iter(text.lstrip().splitlines()), "")
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _cells(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Every row that holds something, with the line that it begins on."""
    before = csv.field_size_limit(sys.maxsize)  # of the whole process; a long text is no fault
    try:
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise TaskError(
                    f"{path}, line {line}: the row that begins here is broken ({error}); close its quotes, "
                    'and write a quote within quotes as ""'
                ) from None
            if any(cells):
                yield line, cells
    finally:
        csv.field_size_limit(before)


def read_json_lines(path: Path) -> list[Row]:
    """Rows of a JSON Lines file, an object a line; blank lines are passed over. Raises TaskError, naming the
    line, for one that is no JSON object, or that holds half of a sign."""
    rows = []
    for number, line in enumerate(io.StringIO(_text(path), newline=None), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            values = json.loads(line.rstrip(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            reason = (
                f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            )
            raise TaskError(f"{place}: this is no JSON ({reason}); write one object a line") from None
        if not isinstance(values, dict):
            raise TaskError(f'{place}: {_short(line)} is no JSON object; write {{"column": value, …}}')
        if half := _half(line, values):
            raise TaskError(
                f"{place}: {half} is half of a sign, as where a text is cut within an emoji; write the other "
                "half too, or neither"
            )
        rows.append(Row(values, place, number))
    return rows


def _half(line: str, values: dict[str, Any]) -> str:
    """A surrogate without its other one, as it is written: JSON's escapes allow what is no text."""
    found = re.search("[\ud800-\udfff]", json.dumps(values, ensure_ascii=False)) if "\\u" in line else None
    return ascii(found[0]) if found else ""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no number {name}")


def _short(line: str) -> str:
    line = line.strip()
    return line if len(line) <= 40 else f"{line[:40]}…"


def _text(path: Path) -> str:
    """The file as text: UTF-8, or UTF-16 where its byte order mark says so."""
    data = path.read_bytes()
    if data.startswith(POINTER):
        raise TaskError(f"{path} is a Git LFS pointer, not data; run `git lfs pull` where it lies")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise TaskError(f"{path} begins as UTF-16 and is not: {error.reason}; save it as UTF-8") from None
        line = len((data[: error.start] + b".").splitlines())
        raise TaskError(
            f"{path}, line {line}: byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8 "
            "(a spreadsheet calls it CSV UTF-8)"
        ) from None
