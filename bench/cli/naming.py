"""Which run a word on the command line names: the same for every command that takes a RUN."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from rankbench.bench.cli import completing
from rankbench.bench.cli.results import results_folder

if TYPE_CHECKING:
    from rankbench.bench.records import FailureRecord, Folders, RunRecord

RUN = "SUITE/EXPERIMENT--ADAPTER--sSEED, or without SUITE/ where one suite alone has it; or its record's file"
RunName = Annotated[str, Argument(metavar="RUN", help=RUN, autocompletion=completing.runs)]

KINDS = ("runs", "failed")
"""Folders of a suite in which a run's name is a file's."""


@dataclass(frozen=True)
class NamedRun:
    """A run that has ended, and where; at least one of the two records is there."""

    folders: Folders
    """Its suite's."""
    cell: str

    @property
    def record(self) -> RunRecord | None:
        """None where it has no result. Raises RecordError for a corrupt one."""
        from rankbench.bench.records import RunRecord, read_record

        path = self.folders.record(self.cell)
        return read_record(path, RunRecord) if path.exists() else None

    @property
    def failure(self) -> FailureRecord | None:
        """None where it has not failed (since). Raises RecordError for a corrupt one."""
        from rankbench.bench.records import FailureRecord, read_record

        path = self.folders.failure(self.cell)
        return read_record(path, FailureRecord) if path.exists() else None

    def result(self) -> RunRecord:
        """The record of the finished run. Raises RecordError where it has none."""
        from rankbench.bench.records import RecordError

        if record := self.record:
            return record
        reason = self.failure.reason if self.failure else "its record is gone"
        raise RecordError(f"{self.cell} has no result: {reason}")


def find_run(word: str, results: str | Path) -> NamedRun:
    """The run of that name: a cell, alone or after its suite's name, file or folder (or URL) and a slash; or
    the file of its record. Suites are looked for under `results`.

    Raises RecordError where there is none, or where several suites have one.
    """
    from rankbench.bench.records import Folders, RecordError

    place, _, cell = word.removesuffix(".json").rpartition("/")
    suites = [_folder(place, results)] if place else _suites(results)
    found = [folder for folder in suites if cell in cells(folder)]
    if len(found) == 1:
        return NamedRun(Folders(found[0]), cell)
    if found:
        named = [folder.resolve().name for folder in found]
        raise RecordError(f"{' and '.join(named)} have a run {cell!r}; say which, as in {named[0]}/{cell}")
    known = {f"{place or folder.resolve().name}/{name}": name for folder in suites for name in cells(folder)}
    where = f"in {place}" if place else f"under {results}"
    raise RecordError(f"no run {cell!r} {where}{_near(cell, known)}")


def cells(folder: Path) -> list[str]:
    """The names of the runs that a suite's folder has records of, failed ones too."""
    named = {path.stem for kind in KINDS for path in (folder / kind).glob("*--*--s*.json")}
    return sorted(named)


def _folder(place: str, results: str | Path) -> Path:
    head, _, last = place.rpartition("/")
    return results_folder((head or ".") if last in KINDS else place, results)


def _suites(results: str | Path) -> Sequence[Path]:
    from rankbench.bench.records.store import to_read

    root = to_read(results)
    return [folder for folder in (root, *sorted(root.glob("*/"))) if cells(folder)]


def _near(cell: str, known: dict[str, str]) -> str:
    """The end of an error message; `known`: how to call a run -> its cell."""
    close = difflib.get_close_matches(cell, {*known.values()}, n=3)
    called = [name for one in close for name, own in known.items() if own == one][:3]
    if called:
        return f"; did you mean {' or '.join(called)}?"
    return f"; one of {len(known)} is {next(iter(known))}" if known else "; none has ended there"
