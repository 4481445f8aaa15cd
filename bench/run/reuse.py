"""A run that another suite has done already is not done again: equal fingerprints, equal results."""

from __future__ import annotations

import sys

from tqdm import tqdm

from rankbench.bench.records import (
    Folders,
    Identity,
    RecordError,
    RunRecord,
    is_this,
    read_record,
    write_atomically,
    write_record,
)
from rankbench.bench.records.files import remove
from rankbench.bench.run.runner import method_fields
from rankbench.bench.suite import RunSpec


def take_over(spec: RunSpec, folders: Folders, parts: Identity, keep_old_versions: bool) -> str | None:
    """Copy the record of this very run, and its predictions, from a suite's folder beside this one;
    `parts` is the run's identity, from which a kept record may differ in the versions of packages.

    Returns that suite's name, None where there is none. Everything stays as it was recorded, timings
    too; only the suite's name and what it calls the method change, and the provenance says where the run
    was done. A record that cannot be read is told on stderr and left alone: the suite that it belongs to
    will name the way out.
    """
    target = folders.record(spec.cell)
    for path in sorted(folders.root.parent.glob(f"*/runs/{spec.cell}.json")):
        predictions = path.with_suffix(".parquet")
        if path == target or not predictions.exists():
            continue
        try:
            record, items = read_record(path, RunRecord), predictions.read_bytes()
        except (RecordError, OSError) as error:
            tqdm.write(f"nothing taken over from there: {error}", file=sys.stderr)
            continue
        if is_this(record, parts, keep_old_versions):
            folders.discard(spec.cell)
            write_atomically(folders.predictions(spec.cell), items)
            changes = {
                "suite": spec.suite,
                **method_fields(spec),
                "config": record.config | {"suite": spec.suite},
                "provenance": {"taken_over_from": record.suite} | record.provenance,
            }
            write_record(target, record.model_copy(update=changes))
            folders.failure(spec.cell).unlink(missing_ok=True)
            remove(folders.checkpoint(spec.cell))
            return record.suite
    return None
