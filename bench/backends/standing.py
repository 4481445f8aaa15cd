"""What is known of a run before it is started: done, failed, or to be done, and why again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rankbench.bench.records import FailureRecord, Folders, RunRecord, differences, is_this, read_record
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.run.job import Job, resolve, unresolved
from rankbench.bench.suite import ConfigError, RunSpec


@dataclass(frozen=True)
class Missing:
    """A run to be done."""

    job: Job
    why: str = ""
    """Why it is done again; empty where it has no record."""
    failure: tuple[int, int] | None = None
    """Which failure lay there at the start: another one is of a process beside this one."""
    refused: Failure | None = None
    """Why it cannot be started."""


@dataclass(frozen=True)
class Standing:
    """A suite's runs, sorted."""

    done: list[Job]
    failed: list[Job]
    """They would fail again."""
    missing: list[Missing]


def look(
    specs: Iterable[RunSpec], folders: Folders, *, retry_failed: bool, keep_old_versions: bool
) -> Standing:
    """Which runs are to be done. Raises ConfigError for a mistake in the suite, RecordError for a corrupt
    record."""
    standing = Standing([], [], [])
    for spec in specs:
        job = attempt(lambda spec=spec: resolve(spec), passing=ConfigError)  # type: ignore[misc]
        failure = version_of(folders.failure(spec.cell))
        if isinstance(job, Failure):
            standing.missing.append(Missing(unresolved(spec), failure=failure, refused=job))
        elif (why := why_missing(job, folders, keep_old_versions)) is None:
            folders.failure(job.cell).unlink(missing_ok=True)  # of a configuration that was tried in between
            standing.done.append(job)
        elif not retry_failed and _failed_for_good(job, folders):
            standing.failed.append(job)
        else:
            standing.missing.append(Missing(job, why, failure))
    return standing


def why_missing(job: Job, folders: Folders, keep_old_versions: bool) -> str | None:
    """None where the run's record is there; otherwise why it is not: empty for one that was never done.

    Raises RecordError for a corrupt record.
    """
    path = folders.record(job.cell)
    if not path.exists():
        return ""
    record = read_record(path, RunRecord)
    if not is_this(record, job.identity, keep_old_versions):
        return "; ".join(differences(record.identity, job.identity))
    if not folders.predictions(job.cell).exists():
        return "its predictions are gone"
    return None


def _failed_for_good(job: Job, folders: Folders) -> bool:
    """Whether the record of a failure lies there that this very run would end in again."""
    path = folders.failure(job.cell)
    if not path.exists():
        return False
    failure = read_record(path, FailureRecord)
    return failure.comes_again and is_this(failure, job.identity, False)


def version_of(path: Path) -> tuple[int, int] | None:
    """Which writing of a file this is, by no clock; None where there is none."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
