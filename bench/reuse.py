"""A run that another suite has done already is not done again: equal fingerprints, equal results."""

from __future__ import annotations

import sys

from tqdm import tqdm

from bench.config import RunSpec
from bench.record import RecordError, RunRecord, fingerprint, read_record, write_atomically, write_record
from bench.runner import Folders, identity, method_fields


def take_over(spec: RunSpec, folders: Folders) -> str | None:
    """Copy the record of this very run, and its predictions, from a suite's folder beside this one.

    Returns that suite's name, None where there is none. Everything stays as it was recorded, timings
    too; only the suite's name and what it calls the method change, and the provenance says where the run
    was done. A record that cannot be read is told on stderr and left alone: the suite that it belongs to
    will name the way out.
    """
    wanted = fingerprint(identity(spec))
    target = folders.record(spec)
    for path in sorted(folders.root.parent.glob(f"*/runs/{spec.cell}.json")):
        predictions = path.with_suffix(".parquet")
        if path == target or not predictions.exists():
            continue
        try:
            record, items = read_record(path, RunRecord), predictions.read_bytes()
        except (RecordError, OSError) as error:
            tqdm.write(f"nothing taken over from there: {error}", file=sys.stderr)
            continue
        if record.fingerprint == wanted:
            folders.discard(spec)
            write_atomically(target.with_suffix(".parquet"), items)
            changes = {
                "suite": spec.suite,
                **method_fields(spec),
                "config": record.config | {"suite": spec.suite},
                "provenance": {"taken_over_from": record.suite} | record.provenance,
            }
            write_record(target, record.model_copy(update=changes))
            folders.failure(spec).unlink(missing_ok=True)
            folders.checkpoint(spec).unlink(missing_ok=True)
            return record.suite
    return None
