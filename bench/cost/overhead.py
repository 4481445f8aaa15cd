"""What training costs: of a step, of the whole loop, and how both grow, with nothing else running.

An entry of a suite's `overhead` block becomes one record, of several processes one after the other; how
each kind is measured in one of them is told in `step`, `loop` and `growth`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from rankbench import adapters
from rankbench.bench import models
from rankbench.bench.console import FAILED, Progress
from rankbench.bench.cost import growth, loop, turns
from rankbench.bench.cost.rounds import Ask, Measured
from rankbench.bench.cpu.quota import fitting
from rankbench.bench.records import (
    LOOP_VERSION,
    SCHEMA_VERSION,
    FailureRecord,
    Folders,
    GrowthPoint,
    OverheadRecord,
    fingerprint,
    read_record,
    write_record,
)
from rankbench.bench.records.files import claim
from rankbench.bench.records.store import why_missing
from rankbench.bench.run import provenance
from rankbench.bench.run.failures import Failure, attempt, stop_if
from rankbench.bench.suite import Suite, plugged
from rankbench.bench.suite.costs import Cost, Growth, Loop, Overhead

POLL_SECONDS = 1.0

KINDS: dict[type, Any] = {Overhead: turns, Loop: loop, Growth: growth}
"""Modules of `check` (find what would stop a measurement before anything runs; raises the packages' own
errors), `measure` (one process) and `adapter_names`."""

T = TypeVar("T")


def identity(settings: Cost) -> dict[str, Any]:
    """Everything that a measurement depends on but the machine."""
    names = KINDS[type(settings)].adapter_names(settings)
    return {
        "schema": SCHEMA_VERSION,
        "software": provenance.versions() | _libraries(settings) | plugged.packages(plugged.named(names)),
        "device": provenance.device(),
        "loop": LOOP_VERSION,
        "versions": {name: adapters.version(name) for name in names},
        "weights": _weights(settings),
        **settings.model_dump(),
        **plugged.hashes(plugged.used(plugged.named(names))),
    }


def _weights(settings: Cost) -> str:
    return growth.MODEL if isinstance(settings, Growth) else models.identity(settings.model)


def _libraries(settings: Cost) -> dict[str, str]:
    return {} if isinstance(settings, Growth) else models.libraries(settings.model)


def check(settings: Cost) -> None:
    """Find what would stop a measurement before anything runs. Raises the packages' own errors."""
    KINDS[type(settings)].check(settings)


def unmeasured(suite: Suite, folders: Folders, keep_old_versions: bool) -> list[str]:
    """Entries of the suite's `overhead` block without a record. Raises RecordError for a corrupt one."""
    return [name for name in suite.overhead if _why(suite, name, folders, keep_old_versions) is not None]


def _why(suite: Suite, name: str, folders: Folders, keep_old_versions: bool = False) -> str | None:
    """None where the entry's record is there; otherwise why it is not: empty for one without a record."""
    parts = identity(suite.overhead[name])
    return why_missing(folders.overhead(name), OverheadRecord, parts, keep_old_versions)


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
                with fitting():
                    return sum(
                        not _is_measured(suite, name, folders, progress, stopped, again) for name in names
                    )
        progress.begin("waiting for another process, which is measuring")
        time.sleep(POLL_SECONDS)
    return 0


def _is_measured(
    suite: Suite, name: str, folders: Folders, progress: Progress, stopped: Callable[[], bool], again: bool
) -> bool:
    """Measure one entry if it has to be; whether there is a record now, or one of its failure."""
    progress.begin(f"overhead {name}")
    why, settings = _why(suite, name, folders), suite.overhead[name]
    if why is None and not again:
        progress.end("measured by another process", found=True)
        return True
    if why:
        progress.note(f"overhead {name} is measured again: {why}")

    def measured() -> OverheadRecord:
        check(settings)
        return measure_overhead(suite, name, folders, progress.doing, stopped)

    found = attempt(measured)
    if isinstance(found, Failure):
        parts = identity(settings)
        record = FailureRecord(
            suite=suite.name,
            task=f"overhead {name}",
            fingerprint=fingerprint(parts),
            identity=parts,
            **vars(found),
            config=settings.model_dump(mode="json"),
        )
        write_record(folders.failed_overhead(name), record)
        folders.send(folders.failed_overhead(name))
        progress.end(f"{FAILED}, {found.reason}")
        return False
    folders.failed_overhead(name).unlink(missing_ok=True)
    folders.send(folders.failed_overhead(name), folders.overhead(name))
    progress.end("measured")
    return True


def measure_overhead(
    suite: Suite,
    name: str,
    folders: Folders,
    tick: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> OverheadRecord:
    """Measure one entry of a suite's `overhead` block and write its record. `tick` is told what is
    being done.

    What a process has measured is kept until the last one is done: an interrupted measurement goes on
    with the next process, if nothing that it depends on has changed meanwhile, the machine included.
    Raises Interrupted when the user asked to stop: half a process is none.
    """
    settings = suite.overhead[name]
    record = OverheadRecord(
        suite=suite.name,
        name=name,
        baseline=suite.baseline,
        model=settings.model.name if not isinstance(settings, Growth) else growth.MODEL,
        fingerprint=fingerprint(identity(settings)),
        identity=identity(settings),
        config=settings.model_dump(mode="json"),
        seconds={},
        peak_resident={},
        parameters={},
        provenance=provenance.provenance(weights=_weights(settings)),
    )
    part, path = folders.unfinished_overhead(name), folders.overhead(name)
    if part.exists():
        kept = read_record(part, OverheadRecord)
        if (kept.fingerprint, kept.provenance) == (record.fingerprint, record.provenance):
            record = kept.model_copy(update={"baseline": record.baseline})
    while record.processes < settings.processes:
        process = record.processes

        def ask(doing: str, process: int = process) -> None:
            stop_if(stopped)
            tick(f"{name}: process {process + 1} of {settings.processes}, {doing}")

        ask("starting")
        record = _joined(record, _measure(settings, process, ask))
        write_record(part, record)
    path.parent.mkdir(parents=True, exist_ok=True)
    part.replace(path)
    return record


def _measure(settings: Cost, process: int, ask: Ask) -> Measured:
    measured: Measured = KINDS[type(settings)].measure(settings, process, ask)
    return measured


def _joined(record: OverheadRecord, measured: Measured) -> OverheadRecord:
    """With one process more."""

    def appended(kept: Mapping[str, list[T]], one: Mapping[str, T]) -> dict[str, list[T]]:
        return {label: [*kept.get(label, []), value] for label, value in one.items()}

    def joined(kept: GrowthPoint, one: GrowthPoint) -> GrowthPoint:
        pairs = ((part, getattr(kept, part), getattr(one, part)) for part in ("seconds", "rescale"))
        return kept.model_copy(
            update={part: {label: old[label] + new[label] for label in old} for part, old, new in pairs}
        )

    points = zip(record.growth, measured.growth, strict=True) if record.growth else ()
    return OverheadRecord.model_validate(
        {
            **record.model_dump(),
            "seconds": appended(record.seconds, measured.seconds),
            "peak_resident": appended(record.peak_resident, measured.peaks),
            "peak_reserved": appended(record.peak_reserved, measured.reserved),
            "joules": appended(record.joules, measured.joules),
            "parameters": measured.parameters,
            "growth": [joined(*pair) for pair in points] or measured.growth,
        }
    )
