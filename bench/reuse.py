"""A run that another suite has done already is not done again: equal fingerprints, equal results."""

from __future__ import annotations

from bench.config import RunSpec
from bench.record import RunRecord, fingerprint, read_record, write_atomically, write_record
from bench.runner import Folders, identity


def take_over(spec: RunSpec, folders: Folders) -> str | None:
    """Copy the record of this very run, and its predictions, from a suite's folder beside this one.

    Returns that suite's name, None where there is none. Everything stays as it was recorded, timings
    and provenance too; only the suite's name changes. Raises RecordError for a corrupt record.
    """
    wanted = fingerprint(identity(spec))
    target = folders.record(spec)
    for path in sorted(folders.root.parent.glob(f"*/runs/{spec.cell}.json")):
        predictions = path.with_suffix(".parquet")
        if path == target or not predictions.exists():
            continue
        record = read_record(path, RunRecord)
        if record.fingerprint == wanted:
            folders.discard(spec)
            write_atomically(target.with_suffix(".parquet"), predictions.read_bytes())
            config = record.config | {"suite": spec.suite}
            write_record(target, record.model_copy(update={"suite": spec.suite, "config": config}))
            folders.failure(spec).unlink(missing_ok=True)
            folders.checkpoint(spec).unlink(missing_ok=True)
            return record.suite
    return None
