"""How a run's end reaches the disk: a record with its predictions, or a failure in its place."""

from __future__ import annotations

import sys
from functools import partial

from tqdm import tqdm

from rankbench.bench.records import (
    FailureRecord,
    Folders,
    RecordError,
    RunRecord,
    is_this,
    read_record,
    write_atomically,
    write_record,
)
from rankbench.bench.records.files import remove
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.run.job import Job
from rankbench.bench.run.provenance import provenance
from rankbench.bench.run.runner import Done


def keep(job: Job, result: Done | Failure, folders: Folders) -> RunRecord | FailureRecord:
    """Write how a run ended. Raises RecordError where not even a failure can be written."""
    if isinstance(result, Done):
        written = attempt(partial(_write, job, result.record, result.predictions, folders))
        if not isinstance(written, Failure):
            return result.record
        result = written
    return _keep_failure(job, result, folders)


def _write(job: Job, record: RunRecord, predictions: bytes, folders: Folders) -> None:
    """Both files or neither, in the place of older ones; then the run is neither failed nor unfinished."""
    folders.discard(job.cell)
    try:
        write_atomically(folders.predictions(job.cell), predictions)
        write_record(folders.record(job.cell), record)
    except RecordError:
        folders.discard(job.cell)
        raise
    folders.failure(job.cell).unlink(missing_ok=True)
    remove(folders.checkpoint(job.cell))


def _keep_failure(job: Job, failure: Failure, folders: Folders) -> FailureRecord:
    """One that would come again takes the place of an older record, and has no use for its checkpoint."""
    record = FailureRecord(
        **job.place,
        fingerprint=job.fingerprint,
        identity=job.identity,
        **vars(failure),
        config=job.config,
        provenance=provenance(),
    )
    write_record(folders.failure(job.cell), record)
    if record.comes_again:
        folders.discard(job.cell)
        remove(folders.checkpoint(job.cell))
    return record


def take_over(job: Job, folders: Folders, keep_old_versions: bool) -> str | None:
    """Copy the record of this very run, and its predictions, from a suite's folder beside this one; the
    versions of packages may differ where old ones are kept. Equal fingerprints, equal results.

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
        if is_this(record, job.identity, keep_old_versions):
            changes = {
                **job.place,
                **job.told,
                "config": record.config | {"suite": job.spec.suite},
                "provenance": {"taken_over_from": record.suite} | record.provenance,
            }
            _write(job, record.model_copy(update=changes), items, folders)
            return record.suite
    return None
