"""Two folders of results side by side: what both measured alike, what the second lost, what is new."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from rankbench.bench.records import RecordError, RunRecord
from rankbench.reports.frames import Group, Overhead, Suite, flatten
from rankbench.reports.frames.contender import Runs

Loss = Literal["failed", "missing", "another protocol"]
MACHINE = ("processor", "cores", "threads", "device")


@dataclass(frozen=True)
class Lost:
    """Runs of one cell, or a measurement of overhead, that the baseline has and the candidate has not."""

    how: Loss
    place: str
    adapter: str
    why: str


@dataclass(frozen=True)
class Measured:
    """A measurement of overhead, or one point of a measurement of growth."""

    name: str
    baseline: str
    protocol: dict[str, str]
    seconds: Mapping[str, list[list[float]]]
    """Contender -> process -> one step per round."""
    peaks: Mapping[str, list[float]]
    """Contender -> MiB in each of its processes."""
    machine: dict[str, str]
    """What of its provenance moves a ratio of costs."""
    settings: dict[str, dict[str, str]]
    """Contender -> what its configuration says, flattened."""


@dataclass
class Paired:
    """The baseline and what of the candidate may be compared with it, by task and by measurement."""

    method: str
    """That others are set beside in the baseline."""
    runs: dict[str, tuple[Runs, Runs]] = field(default_factory=dict)
    """Name of a task under one protocol -> the baseline's runs, those of other seeds than `only` asks for
    too, since they tell of the noise; and the candidate's, each with its equal among the baseline's."""
    overhead: list[tuple[Measured, Measured]] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    """Cells and measurements that only the candidate has."""
    reconfigured: list[str] = field(default_factory=list)
    """Cells and contenders of measurements whose settings outside the protocol differ, with the settings."""


def pair(baseline: Suite, candidate: Suite, only: str | None = None) -> Paired:
    """Match runs by task, adapter, seed and protocol, and measurements by name and protocol.

    `only` is a glob over TASK--ADAPTER--sSEED and over the names of measurements, for both folders.
    Raises RecordError where it leaves nothing of the baseline.
    """
    glob = "*" if only is None else only
    paired = Paired(baseline.baseline)
    _pair_runs(paired, baseline, candidate, glob)
    _pair_overhead(paired, baseline, candidate, glob)
    paired.reconfigured.sort()
    if not (paired.runs or paired.overhead or paired.lost):
        chosen = f" that --only {only!r} matches" if only is not None else ""
        raise RecordError(f"the baseline {baseline.name} has no finished run or measurement{chosen}")
    return paired


def _pair_runs(paired: Paired, baseline: Suite, candidate: Suite, glob: str) -> None:
    found = {
        _key(run): (run, _protocol(group, run))
        for group in candidate.groups
        for run in _matching(group.records, glob)
    }
    failed = {(one.task, one.adapter, one.seed): one for one in candidate.failures}
    lost: dict[tuple[Loss, str, str, str], list[int]] = defaultdict(list)
    for group in baseline.groups:
        before: Runs = {}
        after: Runs = defaultdict(dict)
        for run in _matching(group.records, glob):
            before[run.adapter] = group.runs[run.adapter]
            other, protocol = found.get(_key(run), (None, {}))
            if other and protocol == _protocol(group, run):
                after[run.adapter][run.seed] = other
                for how, why in _not_measured(run, other):
                    lost[how, group.name, run.adapter, why].append(run.seed)
            elif other:
                why = f": {_differences(_protocol(group, run), protocol)}"
                lost["another protocol", group.name, run.adapter, why].append(run.seed)
            elif failure := failed.get(_key(run)):
                at = "" if failure.step is None else f" at step {failure.step}"
                lost["failed", group.name, run.adapter, f": {failure.reason}{at}"].append(run.seed)
            else:
                lost["missing", group.name, run.adapter, ""].append(run.seed)
        if before:
            paired.runs[group.name] = (before, after)
    for (how, place, adapter, why), seeds in lost.items():
        named = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}"
        paired.lost.append(Lost(how, place, adapter, named + why))
    known = {(run.task, run.adapter): run for run in baseline.records}
    cells = {(run.task, run.adapter): run for run, _ in found.values()}
    paired.new += [f"{task}--{adapter}" for task, adapter in cells if (task, adapter) not in known]
    for cell in known.keys() & cells.keys():
        if changed := _differences(_settings(known[cell]), _settings(cells[cell])):
            paired.reconfigured.append(f"{'--'.join(cell)} ({changed})")


def _pair_overhead(paired: Paired, baseline: Suite, candidate: Suite, glob: str) -> None:
    found = {one.name: one for one in _measured(candidate.overhead, glob)}
    known = [*_measured(baseline.overhead, glob)]
    for before in known:
        after = found.pop(before.name, None)
        if after is None:
            paired.lost.append(Lost("missing", before.name, "", "the measurement"))
        elif before.protocol != after.protocol:
            why = _differences(before.protocol, after.protocol)
            paired.lost.append(Lost("another protocol", before.name, "", why))
        else:
            paired.overhead.append((before, after))
            gone = before.seconds.keys() - after.seconds.keys()
            paired.lost += [Lost("missing", before.name, one, "the measurement") for one in sorted(gone)]
            unseen = before.peaks.keys() - after.peaks.keys() - gone
            paired.lost += [Lost("missing", before.name, one, "its peak of memory") for one in sorted(unseen)]
            added = after.seconds.keys() - before.seconds.keys()
            paired.new += [f"{before.name}: {one}" for one in sorted(added)]
            for one in before.settings.keys() & after.settings.keys():
                if changed := _differences(before.settings[one], after.settings[one]):
                    paired.reconfigured.append(f"{before.name}: {one} ({changed})")
    paired.new += found


def _matching(runs: Iterable[RunRecord], glob: str) -> list[RunRecord]:
    return [run for run in runs if fnmatch.fnmatch(f"{run.task}--{run.adapter}--s{run.seed}", glob)]


def _measured(records: Iterable[Overhead], glob: str) -> Iterable[Measured]:
    for record in records:
        if not fnmatch.fnmatch(record.name, glob):
            continue
        baseline, protocol = record.baseline, record.protocol
        machine = {k: v for k, v in flatten(record.provenance).items() if k in MACHINE}
        settings = {label: flatten(record.given(label)) for label in record.config.get("adapters", ())}
        if not record.growth:
            seconds, peaks = record.seconds, record.peak_resident
            yield Measured(record.name, baseline, protocol, seconds, peaks, machine, settings)
        for point in record.growth:
            shape = f"rank {point.rank}, width {point.width}, {point.layers} layers"
            name = f"{record.name}: {point.axis} ({shape})"
            yield Measured(name, baseline, protocol, point.seconds, {}, machine, settings)


def _not_measured(before: RunRecord, after: RunRecord) -> Iterator[tuple[Loss, str]]:
    """What beside its score one run has and its equal has not."""
    if (loss := before.metrics.held_out) and after.metrics.held_out != loss:
        yield "missing", ": the held-out loss"
    if (was := before.forgetting) and (now := after.forgetting) is None:
        yield "missing", ": what was forgotten"
    elif was and now and (was.kind, was.text) != (now.kind, now.text):
        yield "another protocol", ": what was forgotten is of another text"


def _key(run: RunRecord) -> tuple[str, str, int]:
    return run.task, run.adapter, run.seed


def _protocol(group: Group, run: RunRecord) -> dict[str, str]:
    """With what the run is scored by: that follows from the task's code, so its records do not agree on it
    by their protocol alone."""
    metrics = run.metrics
    scored_by = metrics.main if metrics.main in metrics.best else "none"
    # Runs in other surroundings are compared on purpose: an upgrade is what a gate is there to judge.
    free = ("device", "weights", "chosen of states")
    protocol = {k: v for k, v in group.protocol.items() if k not in free and not k.startswith("software.")}
    return protocol | {"main metric": f"{scored_by} {'↓' if metrics.lower_is_better else '↑'}"}


def _settings(run: RunRecord) -> dict[str, str]:
    return flatten({key: value for key, value in run.config.items() if key not in ("suite", "seed")})


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    return ", ".join(f"{key} {before.get(key, 'none')} → {after.get(key, 'none')}" for key in keys)
