"""What is known of a run before it is started: done, failed, or to be done, and why again."""

from __future__ import annotations

from pathlib import Path

from rankbench.bench.records import (
    FailureRecord,
    Folders,
    Identity,
    RunRecord,
    differences,
    is_this,
    read_record,
)
from rankbench.bench.suite import RunSpec


def why_missing(spec: RunSpec, folders: Folders, parts: Identity, keep_old_versions: bool) -> str | None:
    """None where the run's record is there; otherwise why it is not: empty for one that was never done.

    Raises RecordError for a corrupt record.
    """
    path = folders.record(spec.cell)
    if not path.exists():
        return ""
    record = read_record(path, RunRecord)
    if not is_this(record, parts, keep_old_versions):
        return "; ".join(differences(record.identity, parts))
    if not folders.predictions(spec.cell).exists():
        return "its predictions are gone"
    return None


def failed_for_good(spec: RunSpec, folders: Folders, parts: Identity) -> FailureRecord | None:
    """The record of a failure that this very run would end in again. Raises RecordError for a corrupt one."""
    path = folders.failure(spec.cell)
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
