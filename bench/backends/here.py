"""All missing runs of a suite, then its overhead measurements; several processes may share the work.

Every process goes through all missing runs and takes those that no other holds. At the end it waits for
what others still hold: where one of them dies, its run is free again, and is gone on with from its
checkpoint. Overhead is measured when all runs are done, by one process at a time, so that nothing else
of the suite is running then (nothing can be said of what else the machine does).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from accelerate import PartialState

from rankbench.bench.cost.measuring import measure_all, unmeasured
from rankbench.bench.cost.overhead import check as check_overhead
from rankbench.bench.progress import Progress
from rankbench.bench.records import FailureRecord, Folders, Identity, RunRecord
from rankbench.bench.records.lock import claim
from rankbench.bench.records.store import set_baseline
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.run.identity import identity
from rankbench.bench.run.reuse import take_over
from rankbench.bench.run.runner import Listener, check, prepare, record_failure, run
from rankbench.bench.run.standing import failed_for_good, version_of, why_missing
from rankbench.bench.run.train import Interrupted, stop_if
from rankbench.bench.suite import ConfigError, RunSpec, Suite

POLL_SECONDS = 1.0
"""Between two looks at what other processes hold."""


@dataclass(frozen=True)
class Options:
    """How a suite is run."""

    with_overhead: bool = True
    checkpoint_seconds: float = 60.0
    retry_failed: bool = False
    """Try again what failed and would fail again, by its record."""
    keep_old_versions: bool = False
    """Take records as done that differ from the run in the versions of packages alone."""


@dataclass
class Outcome:
    """How many runs ended how."""

    finished: int = 0
    skipped: int = 0
    failed: int = 0
    interrupted: bool = False


@dataclass(frozen=True)
class Missing:
    """A run to be done."""

    spec: RunSpec
    parts: Identity
    """Its identity; empty where the data are missing that it is made from."""
    why: str
    """Why it is done again; empty where it has no record."""
    failure: tuple[int, int] | None
    """Which failure lay there at the start: another one is of a process beside this one."""
    refused: Failure | None = None
    """Why it cannot be started."""


def execute(
    suite: Suite,
    specs: Sequence[RunSpec],
    folders: Folders,
    stopped: Callable[[], bool],
    options: Options | None = None,
) -> Outcome:
    """Do what neither this suite nor another one beside it has done yet. A failed run is recorded
    apart and does not stop the others.

    Raises ConfigError for a mistake in the suite, RecordError for a corrupt record or a folder that
    cannot be written.
    """
    options = options or Options()
    if PartialState(cpu=not torch.cuda.is_available()).num_processes > 1:
        raise ConfigError("a suite runs in one process (bench.run.train.train takes several)")
    folders.check_writable()
    set_baseline(folders, suite.baseline)
    outcome = Outcome()
    missing = _missing(specs, folders, options, outcome)
    overheads = unmeasured(suite, folders, options.keep_old_versions) if options.with_overhead else []
    progress = Progress(len(missing) + len(overheads))
    try:
        _say_why(missing, progress)
        missing = _check(missing, progress, stopped)
        for name in overheads:
            if isinstance(found := attempt(partial(check_overhead, suite.overhead[name])), Failure):
                progress.note(f"overhead {name} cannot be measured: {found.reason}")
        _share(missing, folders, options, outcome, progress, stopped)
        outcome.failed += measure_all(suite, overheads, folders, progress, stopped)
    except (Interrupted, KeyboardInterrupt):
        outcome.interrupted = True
    finally:
        progress.close()
    return outcome


def _missing(specs: Iterable[RunSpec], folders: Folders, options: Options, outcome: Outcome) -> list[Missing]:
    """What is to be done; what is done, or failed for good, is counted."""
    missing = []
    for spec in specs:
        parts = attempt(partial(identity, spec), passing=ConfigError)
        if isinstance(parts, Failure):
            missing.append(Missing(spec, {}, "", version_of(folders.failure(spec.cell)), parts))
            continue
        why = why_missing(spec, folders, parts, options.keep_old_versions)
        if why is None:
            folders.failure(spec.cell).unlink(missing_ok=True)  # of a configuration that was tried in between
            outcome.skipped += 1
        elif failed_for_good(spec, folders, parts) and not options.retry_failed:
            outcome.failed += 1
        else:
            missing.append(Missing(spec, parts, why, version_of(folders.failure(spec.cell))))
    return missing


def _say_why(missing: Iterable[Missing], progress: Progress) -> None:
    reasons = Counter(one.why for one in missing if one.why)
    for why, count in reasons.items():
        progress.note(f"{count} {'run is' if count == 1 else 'runs are'} done again: {why}")


def _check(missing: Iterable[Missing], progress: Progress, stopped: Callable[[], bool]) -> list[Missing]:
    """Prepare every experiment's data and try every adapter on its model, all before the first run; the
    same runs, with the reasons of those that cannot be started."""
    data: dict[str, Failure | None] = {}
    found: dict[tuple[str, str], Failure | None] = {}
    checked = []
    for one in missing:
        spec, key = one.spec, (one.spec.experiment, one.spec.label)
        if one.refused is None and key not in found:
            progress.begin(f"checking {spec.experiment}--{spec.label}")
            if spec.experiment not in data:
                made = attempt(partial(prepare, spec, one.parts))
                data[spec.experiment] = made if isinstance(made, Failure) else None
                for note in [] if isinstance(made, Failure) else made:
                    progress.note(f"{spec.experiment}: {note}")
            found[key] = data[spec.experiment] or attempt(partial(check, spec))
            stop_if(stopped)
        checked.append(replace(one, refused=one.refused or found[key]))
    return checked


def _share(
    missing: Sequence[Missing],
    folders: Folders,
    options: Options,
    outcome: Outcome,
    progress: Progress,
    stopped: Callable[[], bool],
) -> None:
    """Do the missing runs that are free, again and again, until there are none."""
    waited_for: list[str] = []
    while missing:
        held = []
        for one in missing:
            stop_if(stopped)
            with claim(folders.claim(one.spec.cell)) as free:
                if not free:
                    held.append(one)
                    continue
                progress.begin(one.spec.cell)
                progress.end(_one(one, folders, options, outcome, progress, stopped))
        cells = [one.spec.cell for one in held]
        if held and cells != waited_for:
            progress.note(f"waiting for what other processes do: {', '.join(cells)}")
            waited_for = cells
        if len(held) == len(missing):
            time.sleep(POLL_SECONDS)
        missing = held


def _one(
    one: Missing,
    folders: Folders,
    options: Options,
    outcome: Outcome,
    progress: Progress,
    stopped: Callable[[], bool],
) -> str:
    """Do a run that this process holds, and say how it ended."""
    spec, parts = one.spec, one.parts
    if parts and why_missing(spec, folders, parts, options.keep_old_versions) is None:
        outcome.skipped += 1
        return "done by another process"
    if version_of(folders.failure(spec.cell)) not in (None, one.failure):
        outcome.failed += 1
        return "FAILED in another process"
    record: RunRecord | FailureRecord
    if one.refused:
        record = record_failure(spec, folders, parts, one.refused)
    elif other := take_over(spec, folders, parts, options.keep_old_versions):
        outcome.skipped += 1
        return f"taken over from {other}"
    else:
        tick = partial(progress.tick, steps=spec.training.steps)
        record = run(spec, folders, Listener(tick, stopped, options.checkpoint_seconds), parts)
    if isinstance(record, FailureRecord):
        outcome.failed += 1
        at = "" if record.step is None else f" at step {record.step}"
        return f"FAILED, {record.reason}{at}"
    outcome.finished += 1
    score = record.metrics.best[record.metrics.main]
    return f"{record.metrics.main} {score:.4f} in {record.timings.total:.0f} s"
