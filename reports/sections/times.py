"""How long the runs took and what memory they held, for planning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from statistics import fmean

from rankbench.bench.records import RunRecord
from rankbench.reports.frames import Group
from rankbench.reports.frames.machine import machine
from rankbench.reports.render.blocks import Section, Table
from rankbench.reports.render.numbers import MISSING, number
from rankbench.reports.study import Study

HEADER = ["task", "adapter", "runs", "step, ms", "training, s", "scoring, s", "total, s", "peak MiB"]
CARD = "on the card, MiB"


def section(study: Study) -> Section | None:
    """Of every run, a sweep's trials included; of a suite's own trials a row a method."""
    suite = study.suite
    total = number(sum(record.timings.total for record in [*suite.records, *suite.tried]))
    note = (
        f"In all {total} s. Means over the seeds, the peak the largest. Runs may have shared the machine: "
        f"these are no comparison{', which is under Overhead' if suite.overhead else ''}."
    )
    found = [
        (group.name, name, runs)
        for group in suite.groups
        for label, by_seed in group.runs.items()
        for name, runs in _by_machine(label, by_seed.values())
    ]
    found += [
        (group.name, name, runs)
        for group in suite.trials
        for method, trials in _by_method(group).items()
        for name, runs in _by_machine(method, trials)
    ]
    if not found:
        return None
    header, rows = [*HEADER], [[task, name, *_cells(runs)] for task, name, runs in found]
    on_cards = [_on_the_card(runs) for _, _, runs in found]
    if {*on_cards} != {MISSING}:
        header.append(CARD)
        rows = [[*row, cell] for row, cell in zip(rows, on_cards, strict=True)]
    return Section("Time and memory of the runs", [note, Table(header, rows, words=2)])


def _by_method(group: Group) -> dict[str, list[RunRecord]]:
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for record in group.records:
        found[record.method].append(record)
    return found


def _by_machine(label: str, runs: Iterable[RunRecord]) -> Iterator[tuple[str, list[RunRecord]]]:
    """A method's runs; those of several machines are never put together."""
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        found[machine(run.provenance)].append(run)
    for where, those in found.items():
        yield (f"{label} on {where or 'an unknown machine'}" if len(found) > 1 else label), those


def _cells(runs: Collection[RunRecord]) -> list[str]:
    seconds = [(1000 * t.median_step, t.train, t.score, t.total) for t in (run.timings for run in runs)]
    means = [f"{fmean(values):,.1f}" for values in zip(*seconds, strict=True)]
    return [str(len(runs)), *means, f"{max(run.memory.peak_resident for run in runs):,.0f}"]


def _on_the_card(runs: Collection[RunRecord]) -> str:
    """What its allocator had handed out at the peak: the other one is the process's, in main memory."""
    peaks = [peak for run in runs if (peak := run.memory.peak_allocated) is not None]
    return f"{max(peaks):,.0f}" if peaks else MISSING
