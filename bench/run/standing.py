"""What is known of a run before it is started: done, failed, or to be done, and why again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rankbench.bench.records.folders import Folders
from rankbench.bench.records.schema import FailureRecord, OverheadRecord, RunRecord, fingerprint, read_record
from rankbench.bench.run.identity import differences, same_but_for_versions
from rankbench.bench.suite.schema import RunSpec

Parts = dict[str, Any]
"""A run's identity."""


def is_this(
    record: RunRecord | OverheadRecord | FailureRecord, parts: Parts, keep_old_versions: bool
) -> bool:
    """Whether a record is of the very run, or of the same with other packages where those are kept."""
    same = record.fingerprint == fingerprint(parts)
    return same or (keep_old_versions and same_but_for_versions(record.identity, parts))


def why_missing(spec: RunSpec, folders: Folders, parts: Parts, keep_old_versions: bool) -> str | None:
    """None where the run's record is there; otherwise why it is not: empty for one that was never done.

    Raises RecordError for a corrupt record.
    """
    path = folders.record(spec)
    if not path.exists():
        return ""
    record = read_record(path, RunRecord)
    if not is_this(record, parts, keep_old_versions):
        return "; ".join(differences(record.identity, parts))
    if not folders.predictions(spec).exists():
        return "its predictions are gone"
    return None


def failed_for_good(spec: RunSpec, folders: Folders, parts: Parts) -> FailureRecord | None:
    """The record of a failure that this very run would end in again. Raises RecordError for a corrupt one."""
    path = folders.failure(spec)
    if not path.exists():
        return None
    failure = read_record(path, FailureRecord)
    return failure if failure.comes_again and is_this(failure, parts, False) else None


def version_of(path: Path) -> tuple[int, int] | None:
    """Which writing of a file this is, by no clock; None where there is none."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
