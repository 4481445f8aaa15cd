"""A suite's measurements of overhead: which are missing, and one after the other by one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from rankbench.bench.cost import overhead
from rankbench.bench.progress import Progress
from rankbench.bench.records import (
    FailureRecord,
    Folders,
    OverheadRecord,
    differences,
    fingerprint,
    is_this,
    read_record,
    write_record,
)
from rankbench.bench.records.lock import claim
from rankbench.bench.run.failures import Failure, attempt, stop_if
from rankbench.bench.run.provenance import provenance
from rankbench.bench.suite import Suite

POLL_SECONDS = 1.0


def unmeasured(suite: Suite, folders: Folders, keep_old_versions: bool) -> list[str]:
    """Entries of the suite's `overhead` block without a record. Raises RecordError for a corrupt one."""
    return [name for name in suite.overhead if _why(suite, name, folders, keep_old_versions) is not None]


def _why(suite: Suite, name: str, folders: Folders, keep_old_versions: bool = False) -> str | None:
    """None where the entry's record is there; otherwise why it is not: empty for one without a record."""
    path = folders.overhead(name)
    if not path.exists():
        return ""
    record, parts = read_record(path, OverheadRecord), overhead.identity(suite.overhead[name])
    if is_this(record, parts, keep_old_versions):
        return None
    return "; ".join(differences(record.identity, parts))


def measure_all(
    suite: Suite,
    names: Sequence[str],
    folders: Folders,
    progress: Progress,
    stopped: Callable[[], bool],
    *,
    again: bool = False,
) -> int:
    """Measure the entries, holding the folder's one lock for measurements, and return how many failed.

    Of what another process has measured while this one waited for the lock nothing is done `again`
    unless that is asked for. Raises Interrupted when the user asked to stop.
    """
    while names:
        stop_if(stopped)
        with claim(folders.overhead_claim) as free:
            if free:
                done = [_one(suite, name, folders, progress, stopped, again) for name in names]
                return done.count(False)
        progress.begin("waiting for another process, which is measuring")
        time.sleep(POLL_SECONDS)
    return 0


def _one(
    suite: Suite,
    name: str,
    folders: Folders,
    progress: Progress,
    stopped: Callable[[], bool],
    again: bool,
) -> bool:
    """Whether the entry is measured now."""
    progress.begin(f"overhead {name}")
    why = _why(suite, name, folders)
    if why is None and not again:
        progress.end("measured by another process")
        return True
    if why:
        progress.note(f"overhead {name} is measured again: {why}")
    found = attempt(partial(_measure, suite, name, folders, progress, stopped))
    if isinstance(found, Failure):
        _record_failure(suite, name, folders, found)
        progress.end(f"FAILED, {found.reason}")
        return False
    folders.failed_overhead(name).unlink(missing_ok=True)
    progress.end("measured")
    return True


def _measure(
    suite: Suite, name: str, folders: Folders, progress: Progress, stopped: Callable[[], bool]
) -> OverheadRecord:
    overhead.check(suite.overhead[name])
    return overhead.measure_overhead(suite, name, folders, progress.note, stopped)


def _record_failure(suite: Suite, name: str, folders: Folders, failure: Failure) -> None:
    parts = overhead.identity(suite.overhead[name])
    write_record(
        folders.failed_overhead(name),
        FailureRecord(
            suite=suite.name,
            task=f"overhead {name}",
            fingerprint=fingerprint(parts),
            identity=parts,
            **vars(failure),
            config=suite.overhead[name].model_dump(mode="json"),
            provenance=provenance(),
        ),
    )
