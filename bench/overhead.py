"""What training costs: of a step, of the whole loop, and how both grow, with nothing else running.

An entry of a suite's `overhead` block becomes one record; how each kind is measured is told in
`step_cost`, `loop_cost` and `growth_cost`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import adapters
from bench import growth_cost, loop_cost, measure, models, software, step_cost
from bench.config import Suite
from bench.costs import Growth, Loop, Overhead
from bench.record import LOOP_VERSION, SCHEMA_VERSION, OverheadRecord, fingerprint
from bench.rounds import Measured
from bench.train import Interrupted

Entry = Overhead | Loop | Growth


def identity(settings: Entry) -> dict[str, Any]:
    """Everything that a measurement depends on but the machine."""
    return {
        "schema": SCHEMA_VERSION,
        "software": software.versions(),
        "device": software.device(),
        "loop": LOOP_VERSION,
        "versions": {name: adapters.version(name) for name in _adapters(settings)},
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
    suite: Suite, name: str, tick: Callable[[str], None], stopped: Callable[[], bool] = lambda: False
) -> OverheadRecord:
    """Measure one entry of a suite's `overhead` block. `tick` is told what is being done.

    Raises Interrupted when the user asked to stop: half a measurement is none.
    """
    settings = suite.overhead[name]

    def ask(doing: str) -> None:
        if stopped():
            raise Interrupted
        tick(f"{name}: {doing}")

    measured = _measure(settings, ask)
    return OverheadRecord(
        suite=suite.name,
        name=name,
        model=settings.model.name if not isinstance(settings, Growth) else growth_cost.MODEL,
        fingerprint=fingerprint(identity(settings)),
        identity=identity(settings),
        config=settings.model_dump(mode="json"),
        seconds={label: [rounds] for label, rounds in measured.seconds.items()},
        peak_resident={label: [peak] for label, peak in measured.peaks.items()},
        parameters=measured.parameters,
        growth=measured.growth,
        provenance=measure.provenance(weights=_weights(settings)),
    )


def _measure(settings: Entry, ask: Callable[[str], None]) -> Measured:
    match settings:
        case Overhead():
            return step_cost.measure_steps(settings, ask)
        case Loop():
            return loop_cost.measure_loops(settings, ask)
        case Growth():
            return growth_cost.measure_growth(settings, ask)


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
