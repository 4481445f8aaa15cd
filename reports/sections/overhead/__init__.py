"""What training costs: a step beside the baseline's and the frozen model's, a loop beside the Trainer's."""

from __future__ import annotations

from rankbench.bench.records import OverheadRecord
from rankbench.bench.records.costs import TRAINER
from rankbench.reports.render.blocks import Block, Section
from rankbench.reports.render.looks import Looks
from rankbench.reports.render.words import words
from rankbench.reports.sections.overhead.growth import growth
from rankbench.reports.sections.overhead.loops import loops
from rankbench.reports.sections.overhead.steps import steps
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.evidence import counted
from rankbench.reports.stats.processes import ONE_PROCESS
from rankbench.reports.study import Study


def section(study: Study) -> Section | None:
    """A part for each measurement."""
    parts = [
        Section(f"{record.name}: {record.model}", [conditions(record), *_measured(record, study.styles)])
        for record in study.shown.overhead
    ]
    return Section("Overhead", [words("overhead", level=LEVEL), *parts]) if parts else None


def _measured(record: OverheadRecord, styles: Looks) -> list[Block]:
    if record.growth:
        return growth(record)
    return loops(record) if TRAINER in record.seconds else steps(record, styles)


def conditions(record: OverheadRecord) -> str:
    """How often it was measured, and on which machine."""
    first = record.growth[0].seconds if record.growth else record.seconds
    rounds = max((len(rounds) for rounds in next(iter(first.values()), [])), default=0)
    known = record.provenance
    machine = [known["processor"]] if "processor" in known else []
    machine += [counted(known[f"{part}s"], part) for part in ("core", "thread") if f"{part}s" in known]
    if known.get("device", "cpu") != "cpu":
        machine.insert(0, known["device"])
    if "torch" in known.get("packages", {}):
        machine.append(f"torch {known['packages']['torch']}")
    told = (
        f"{record.processes} processes × {rounds} rounds"
        if record.processes > 1
        else counted(rounds, "round")
    )
    alone = f" {ONE_PROCESS.capitalize()}." if record.processes == 1 else ""
    return f"{told}{' on ' if machine else ''}{', '.join(machine)}.{alone}"
