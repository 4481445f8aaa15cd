"""A run on the disk: what is known of it before it is started (done, failed, or to be done, and why again),
and how its end gets there (a record with its predictions, or a failure in its place)."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rankbench.bench.records import (
    FailureRecord,
    Folders,
    RecordError,
    RunRecord,
    is_this,
    read_record,
    store,
    write_atomically,
    write_record,
)
from rankbench.bench.records.files import claim, copy
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.run.job import Job, resolve, unresolved
from rankbench.bench.run.runner import Done
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
    specs: Iterable[RunSpec],
    folders: Folders,
    *,
    retry_failed: bool,
    keep_old_versions: bool,
    device: str | None = None,
) -> Standing:
    """Which runs are to be done, on machines with that device or on this one.

    Raises ConfigError for a mistake in the suite, RecordError for a corrupt record.
    """
    standing = Standing([], [], [])
    for spec in specs:
        job = attempt(partial(resolve, spec, device), ConfigError)
        failure = version_of(folders.failure(spec.cell))
        if isinstance(job, Failure):
            standing.missing.append(Missing(unresolved(spec), failure=failure, refused=job))
        elif (why := why_missing(job, folders, keep_old_versions)) is None:
            _renew(job, folders)
            folders.failure(job.cell).unlink(missing_ok=True)  # of a configuration that was tried in between
            folders.send(*folders.of(job.cell))
            standing.done.append(job)
        elif not retry_failed and _failed_for_good(job, folders):
            standing.failed.append(job)
        else:
            standing.missing.append(Missing(job, why, failure))
    return standing


def _renew(job: Job, folders: Folders) -> None:
    """Write what the suite says now of the method into the record that is there; one that another process is
    at is left to it."""
    path = folders.record(job.cell)
    if not _news(job, path):
        return
    with claim(folders.claim(job.cell)) as free:
        if free and path.exists():
            write_record(path, read_record(path, RunRecord).model_copy(update=_news(job, path)))


def _news(job: Job, path: Path) -> dict[str, Any]:
    """What the record says otherwise."""
    record = read_record(path, RunRecord)
    return {name: value for name, value in job.told.items() if getattr(record, name) != value}


def why_missing(job: Job, folders: Folders, keep_old_versions: bool) -> str | None:
    """None where the run's record is there; otherwise why it is not: empty for one that was never done.

    Raises RecordError for a corrupt record.
    """
    why = store.why_missing(folders.record(job.cell), RunRecord, job.identity, keep_old_versions)
    if why is None and not folders.predictions(job.cell).exists():
        return "its predictions are gone"
    if why is None and job.spec.save and not folders.adapter(job.cell).exists():
        return "its adapter is to be saved and is not there"
    return why


def _failed_for_good(job: Job, folders: Folders) -> bool:
    """Whether the record of a failure lies there that this very run would end in again."""
    if not folders.failure(job.cell).exists():
        return False
    failure = read_record(folders.failure(job.cell), FailureRecord)
    return failure.comes_again and is_this(failure, job.identity, False)


def version_of(path: Path) -> tuple[int, int] | None:
    """Which writing of a file this is, by no clock; None where there is none."""
    found = path.stat() if path.exists() else None
    return found and (found.st_ino, found.st_mtime_ns)


def keep(job: Job, result: Done | Failure, folders: Folders) -> RunRecord | FailureRecord:
    """Write how a run ended. Raises RecordError where not even a failure can be written."""
    if isinstance(result, Done):
        written = attempt(partial(_write, job, result, folders))
        if not isinstance(written, Failure):
            return result.record
        result = written
    return _keep_failure(job, result, folders)


def _write(job: Job, done: Done, folders: Folders) -> None:
    """All files or none, in the place of older ones; then the run is neither failed nor unfinished."""
    folders.discard(job.cell)
    try:
        write_atomically(folders.predictions(job.cell), done.predictions)
        if done.adapter is not None:
            _place(done.adapter, folders.adapter(job.cell))
        write_record(folders.record(job.cell), done.record.as_kept)
    except RecordError:
        folders.discard(job.cell)
        raise
    folders.failure(job.cell).unlink(missing_ok=True)
    folders.send(*folders.of(job.cell))
    folders.forget(job.cell)


def _place(adapter: Path | bytes, path: Path) -> None:
    """Raises RecordError where that cannot be done."""
    if isinstance(adapter, bytes):
        write_atomically(path, adapter)
        return
    try:
        adapter.replace(path)
    except OSError as error:
        raise RecordError(f"cannot move {adapter} to {path}: {error.strerror or error}") from error


def _keep_failure(job: Job, failure: Failure, folders: Folders) -> FailureRecord:
    """One that would come again takes the place of an older record, and has no use for its checkpoint."""
    record = FailureRecord(
        **job.place,
        fingerprint=job.fingerprint,
        identity=job.identity,
        **vars(failure),
        config=job.config,
    )
    write_record(folders.failure(job.cell), record)
    if record.comes_again:
        folders.discard(job.cell)
        folders.forget(job.cell)
    folders.send(*folders.of(job.cell))
    return record


def take_over(job: Job, folders: Folders, keep_old_versions: bool) -> str | None:
    """Copy the record of this very run, its predictions and its adapter, if one is saved, from a suite's
    folder beside this one; the versions of packages may differ where old ones are kept. Equal fingerprints,
    equal results.

    Returns that suite's name, None where there is none. Everything stays as it was recorded, timings
    too; only the suite's name and what it calls the method change, and the provenance says where the run
    was done. A record that cannot be read is told on stderr and left alone: the suite that it belongs to
    will name the way out.
    """
    for path in sorted(folders.root.parent.glob(f"*/runs/{job.cell}.json")):
        predictions = path.with_suffix(".parquet")
        if path == folders.record(job.cell) or not predictions.exists():
            continue
        try:
            record, items = read_record(path, RunRecord), predictions.read_bytes()
        except (RecordError, OSError) as error:
            tqdm.write(f"nothing taken over from there: {error}", file=sys.stderr)
            continue
        saved = record.saved if path.with_suffix(".safetensors").exists() else None
        if is_this(record, job.identity, keep_old_versions) and (saved or not job.spec.save):
            changes = {
                **job.place,
                **job.told,
                "config": record.config | {"suite": job.spec.suite},
                "provenance": {"taken_over_from": record.suite} | record.provenance,
                "saved": saved,
            }
            if saved:
                copy(path.with_suffix(".safetensors"), folders.trained(job.cell))
            adapter = folders.trained(job.cell) if saved else None
            _write(job, Done(record.model_copy(update=changes), items, adapter), folders)
            return record.suite
    return None
