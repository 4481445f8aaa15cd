"""A suite's measurements of overhead: which are missing, and one after the other by one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from bench import measure, overhead
from bench.claim import claim
from bench.config import Suite
from bench.failures import Failure, attempt
from bench.folders import Folders
from bench.progress import Progress
from bench.record import FailureRecord, OverheadRecord, fingerprint, read_record, write_record
from bench.standing import is_this
from bench.train import stop_if

POLL_SECONDS = 1.0


def unmeasured(suite: Suite, folders: Folders, keep_old_versions: bool) -> list[str]:
    """Entries of the suite's `overhead` block without a record. Raises RecordError for a corrupt one."""
    return [name for name in suite.overhead if not _is_measured(suite, name, folders, keep_old_versions)]


def _is_measured(suite: Suite, name: str, folders: Folders, keep_old_versions: bool) -> bool:
    path = folders.overhead(name)
    if not path.exists():
        return False
    return is_this(
        read_record(path, OverheadRecord), overhead.identity(suite.overhead[name]), keep_old_versions
    )


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
    failed = 0
    while names:
        stop_if(stopped)
        with claim(folders.overhead_claim) as free:
            if free:
                for name in names:
                    progress.begin(f"overhead {name}")
                    if not again and _is_measured(suite, name, folders, False):
                        progress.end("measured by another process")
                        continue
                    found = attempt(partial(_measure, suite, name, folders, progress, stopped))
                    if isinstance(found, Failure):
                        _record_failure(suite, name, folders, found)
                        progress.end(f"FAILED, {found.reason}")
                        failed += 1
                        continue
                    folders.failed_overhead(name).unlink(missing_ok=True)
                    progress.end("measured")
                return failed
        progress.begin("waiting for another process, which is measuring")
        time.sleep(POLL_SECONDS)
    return failed


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
            provenance=measure.provenance(),
        ),
    )
