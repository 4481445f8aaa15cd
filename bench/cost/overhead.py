"""What training costs: of a step, of the whole loop, and how both grow, with nothing else running.

An entry of a suite's `overhead` block becomes one record, of several processes one after the other; how
each kind is measured in one of them is told in `step`, `loop` and `growth`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rankbench import adapters
from rankbench.bench import models
from rankbench.bench.cost import growth as growth_cost
from rankbench.bench.cost import loop as loop_cost
from rankbench.bench.cost import step as step_cost
from rankbench.bench.cost.rounds import Measured
from rankbench.bench.records import (
    LOOP_VERSION,
    SCHEMA_VERSION,
    Folders,
    GrowthPoint,
    OverheadRecord,
    fingerprint,
    read_record,
    write_record,
)
from rankbench.bench.run import software
from rankbench.bench.run.failures import Interrupted
from rankbench.bench.run.provenance import provenance
from rankbench.bench.suite import Suite
from rankbench.bench.suite.costs import Growth, Loop, Overhead

Entry = Overhead | Loop | Growth
T = TypeVar("T")


def identity(settings: Entry) -> dict[str, Any]:
    """Everything that a measurement depends on but the machine."""
    names = _adapters(settings)
    return {
        "schema": SCHEMA_VERSION,
        "software": software.of_adapters(names),
        "device": software.device(),
        "loop": LOOP_VERSION,
        "versions": {name: adapters.version(name) for name in names},
        "weights": _weights(settings),
        **settings.model_dump(),
    }


def check(settings: Entry) -> None:
    """Find what would stop a measurement before anything runs. Raises the packages' own errors."""
    match settings:
        case Overhead():
            step_cost.check(settings)
        case Loop():
            loop_cost.check(settings)
        case Growth():
            pass  # Its shapes and adapters were checked when the suite was read.


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
    empty = OverheadRecord(
        suite=suite.name,
        name=name,
        baseline=suite.baseline,
        model=settings.model.name if not isinstance(settings, Growth) else growth_cost.MODEL,
        fingerprint=fingerprint(identity(settings)),
        identity=identity(settings),
        config=settings.model_dump(mode="json"),
        seconds={},
        peak_resident={},
        parameters={},
        provenance=provenance(weights=_weights(settings)),
    )
    part, path = folders.unfinished_overhead(name), folders.overhead(name)
    record = _kept(part, empty)
    while record.processes < settings.processes:
        process = record.processes

        def ask(doing: str, process: int = process) -> None:
            if stopped():
                raise Interrupted
            tick(f"{name}: process {process + 1} of {settings.processes}, {doing}")

        ask("starting")
        record = _joined(record, _measure(settings, process, ask))
        write_record(part, record)
    path.parent.mkdir(parents=True, exist_ok=True)
    part.replace(path)
    return record


def _kept(part: Path, empty: OverheadRecord) -> OverheadRecord:
    """What an interrupted measurement of the same on the same machine has left, or nothing."""
    if not part.exists():
        return empty
    found = read_record(part, OverheadRecord)
    same = (found.fingerprint, found.provenance) == (empty.fingerprint, empty.provenance)
    return found.model_copy(update={"baseline": empty.baseline}) if same else empty


def _joined(record: OverheadRecord, measured: Measured) -> OverheadRecord:
    """With one process more."""
    growth = measured.growth
    if record.growth:
        growth = [_joined_points(*pair) for pair in zip(record.growth, measured.growth, strict=True)]
    return OverheadRecord.model_validate(
        {
            **record.model_dump(),
            "seconds": _appended(record.seconds, measured.seconds),
            "peak_resident": _appended(record.peak_resident, measured.peaks),
            "parameters": measured.parameters,
            "growth": growth,
        }
    )


def _joined_points(before: GrowthPoint, one: GrowthPoint) -> GrowthPoint:
    return before.model_copy(
        update={
            part: {label: kept + getattr(one, part)[label] for label, kept in getattr(before, part).items()}
            for part in ("seconds", "rescale")
        }
    )


def _appended(kept: Mapping[str, list[T]], measured: Mapping[str, T]) -> dict[str, list[T]]:
    return {label: [*kept.get(label, []), value] for label, value in measured.items()}


def _measure(settings: Entry, process: int, ask: Callable[[str], None]) -> Measured:
    match settings:
        case Overhead():
            return step_cost.measure_steps(settings, process, ask)
        case Loop():
            return loop_cost.measure_loops(settings, process, ask)
        case Growth():
            return growth_cost.measure_growth(settings, process, ask)


def _adapters(settings: Entry) -> list[str]:
    match settings:
        case Overhead():
            return [spec.name for spec in settings.adapters.values()]
        case Loop():
            return [loop_cost.ADAPTER]
        case Growth():
            return settings.adapters


def _weights(settings: Entry) -> str:
    return growth_cost.MODEL if isinstance(settings, Growth) else models.identity(settings.model)
