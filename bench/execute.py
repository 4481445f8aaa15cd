"""All missing runs of a suite, one after the other, then its overhead measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.config import RunSpec, Suite
from bench.overhead import identity as overhead_identity
from bench.overhead import measure_overhead
from bench.progress import Progress
from bench.record import FailureRecord, OverheadRecord, fingerprint, read_record, write_record
from bench.runner import Folders, Listener, is_done, run
from bench.train import Interrupted


@dataclass
class Outcome:
    """How many runs ended how."""

    finished: int = 0
    skipped: int = 0
    failed: int = 0
    interrupted: bool = False


def execute(
    suite: Suite,
    specs: Sequence[RunSpec],
    folders: Folders,
    stopped: Callable[[], bool],
    *,
    with_overhead: bool = True,
) -> Outcome:
    """Do what is not done yet. A failed run is recorded apart and does not stop the others."""
    outcome = Outcome()
    overheads = list(suite.overhead) if with_overhead else []
    progress = Progress(len(specs) + len(overheads))
    try:
        for spec in specs:
            progress.begin(spec.cell)
            _one(spec, folders, outcome, progress, stopped)
            if stopped():
                raise Interrupted
        for name in overheads:
            progress.begin(f"overhead {name}")
            progress.end(_overhead(suite, name, folders, progress))
            if stopped():
                raise Interrupted
    except (Interrupted, KeyboardInterrupt):
        outcome.interrupted = True
    finally:
        progress.close()
    return outcome


def _one(
    spec: RunSpec, folders: Folders, outcome: Outcome, progress: Progress, stopped: Callable[[], bool]
) -> None:
    if is_done(spec, folders):
        outcome.skipped += 1
        progress.end("there already")
        return
    listener = Listener(tick=lambda curve: progress.tick(curve, spec.training.steps), stopped=stopped)
    record = run(spec, folders, listener)
    if isinstance(record, FailureRecord):
        outcome.failed += 1
        progress.end(f"FAILED, {record.reason} at step {record.step}")
        return
    outcome.finished += 1
    score = record.metrics.best[record.metrics.main]
    progress.end(f"{record.metrics.main} {score:.4f} in {record.timings.total:.0f} s")


def _overhead(suite: Suite, name: str, folders: Folders, progress: Progress) -> str:
    path = folders.root / "overhead" / f"{name}.json"
    wanted = fingerprint(overhead_identity(suite.overhead[name]))
    if path.exists() and read_record(path, OverheadRecord).fingerprint == wanted:
        return "there already"
    write_record(path, measure_overhead(suite, name, progress.note))
    return "measured"
