"""All missing runs of a suite, one after the other, then its overhead measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import PartialState

from bench.config import ConfigError, RunSpec, Suite
from bench.overhead import check as check_overhead
from bench.overhead import identity, measure_overhead
from bench.progress import Progress
from bench.record import (
    FailureRecord,
    OverheadRecord,
    check_writable,
    fingerprint,
    read_record,
    write_record,
)
from bench.reuse import take_over
from bench.runner import Folders, Listener, check, is_done, run
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
    checkpoint_seconds: float = 60.0,
) -> Outcome:
    """Do what neither this suite nor another one beside it has done yet. A failed run is recorded
    apart and does not stop the others."""
    if PartialState(cpu=not torch.cuda.is_available()).num_processes > 1:
        raise ConfigError("a suite runs in one process (bench.train.train takes several)")
    check_writable(folders.root)
    missing = [spec for spec in specs if not is_done(spec, folders)]
    overheads = [name for name in suite.overhead if with_overhead and not _is_measured(suite, name, folders)]
    outcome = Outcome(skipped=len(specs) - len(missing))
    progress = Progress(len(missing) + len(overheads))
    try:
        for spec in {(spec.experiment, spec.label): spec for spec in missing}.values():
            progress.begin(f"checking {spec.experiment}--{spec.label}")
            check(spec)
            _stop_if(stopped)
        for name in overheads:
            check_overhead(suite.overhead[name])
        for spec in missing:
            progress.begin(spec.cell)
            if other := take_over(spec, folders):
                outcome.skipped += 1
                progress.end(f"taken over from {other}")
                continue
            _one(spec, folders, outcome, progress, stopped, checkpoint_seconds)
            _stop_if(stopped)
        for name in overheads:
            progress.begin(f"overhead {name}")
            record = measure_overhead(suite, name, progress.note, stopped)
            write_record(folders.overhead(name), record)
            progress.end("measured")
    except (Interrupted, KeyboardInterrupt):
        outcome.interrupted = True
    finally:
        progress.close()
    return outcome


def _one(
    spec: RunSpec,
    folders: Folders,
    outcome: Outcome,
    progress: Progress,
    stopped: Callable[[], bool],
    checkpoint_seconds: float,
) -> None:
    listener = Listener(lambda curve: progress.tick(curve, spec.training.steps), stopped, checkpoint_seconds)
    record = run(spec, folders, listener)
    if isinstance(record, FailureRecord):
        outcome.failed += 1
        progress.end(f"FAILED, {record.reason} at step {record.step}")
        return
    outcome.finished += 1
    score = record.metrics.best[record.metrics.main]
    progress.end(f"{record.metrics.main} {score:.4f} in {record.timings.total:.0f} s")


def _is_measured(suite: Suite, name: str, folders: Folders) -> bool:
    path = folders.overhead(name)
    wanted = fingerprint(identity(suite.overhead[name]))
    return path.exists() and read_record(path, OverheadRecord).fingerprint == wanted


def _stop_if(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise Interrupted
