"""The records of one suite, sorted into groups of runs that may be compared."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rankbench.bench.records import (
    FailureRecord,
    OverheadRecord,
    RecordError,
    RunRecord,
    is_trial,
    read_record,
    read_runs,
)
from rankbench.bench.records.block import DEFAULT_BASELINE
from rankbench.reports.frames.contender import Place, Runs, flatten, in_order
from rankbench.reports.frames.group import Group
from rankbench.reports.frames.overhead import Overhead


@dataclass(frozen=True)
class Suite:
    """Everything that a report is made from."""

    name: str
    groups: list[Group]
    overhead: list[Overhead]
    failures: list[FailureRecord]
    trials: Sequence[Group] = ()
    """What chose the settings of the others' methods: no results, and no part of `groups`."""

    @property
    def records(self) -> list[RunRecord]:
        """Every finished run that is a result."""
        return [record for group in self.groups for record in group.records]

    @property
    def tried(self) -> list[RunRecord]:
        """Every finished trial."""
        return [record for group in self.trials for record in group.records]

    @cached_property
    def baseline(self) -> str:
        """The suite's entry that its others are set beside."""
        records: list[RunRecord | OverheadRecord] = [*self.records, *self.overhead, *self.tried]
        return records[0].baseline if records else DEFAULT_BASELINE

    @cached_property
    def labels(self) -> list[str]:
        """Of all groups, in order."""
        return _by_place(
            (label, one.place) for group in self.groups for label, one in group.contenders.items()
        )

    @cached_property
    def names(self) -> list[str]:
        """What figures tell apart, in order: the labels, but the ranks of a sweep by its name."""
        return _by_place(
            (name, group.contenders[label].place)
            for group in self.groups
            for name, label in [
                *((name, next(iter(by_rank.values()))) for name, by_rank in group.ranks.items()),
                *((label, label) for label in group.runs if not group.is_rank_sweep),
            ]
        )


def load(suite_folder: Path, cells: Collection[str] | None = None, *, beyond_plan: bool = False) -> Suite:
    """Read `runs/`, of them those with these names where there are any, `overhead/` and `failed/`.

    `beyond_plan`: with seeds that their plan of stages does not come to. Raises RecordError where a record is
    unreadable, there is none at all, there are two of one run, or the seeds of one cell were run under
    different configurations.
    """
    every = list(read_runs(suite_folder, cells))
    _refuse_two_of_one(every, suite_folder)
    runs = [record for record in every if beyond_plan or _is_planned(record)]
    overhead = [read_record(path, Overhead) for path in sorted((suite_folder / "overhead").glob("*.json"))]
    failures = [read_record(path, FailureRecord) for path in sorted((suite_folder / "failed").glob("*.json"))]
    if not (runs or overhead or failures):
        raise RecordError(f"no records under {suite_folder}; do `rankbench run` of the suite first")
    _refuse_mixed(runs)
    _refuse_two_baselines([*runs, *overhead])
    groups = _by_task((record for record in runs if not is_trial(record)), suite_folder)
    trials = _by_task((record for record in runs if is_trial(record)), suite_folder)
    return Suite(suite_folder.resolve().name, groups, overhead, failures, trials)


def _by_task(runs: Iterable[RunRecord], suite_folder: Path) -> list[Group]:
    by_task: dict[str, list[RunRecord]] = defaultdict(list)
    for record in runs:
        by_task[record.task].append(record)
    return [group for task in sorted(by_task) for group in _groups(task, by_task[task], suite_folder)]


def _is_planned(record: RunRecord) -> bool:
    """Whether its seed is one that its plan of stages may run, where it has one. Others were there before the
    plan, and would be taken for its own that are still to come."""
    return not record.stages or record.seed < record.stages[-1]


def _refuse_two_of_one(runs: Iterable[RunRecord], suite_folder: Path) -> None:
    """A copy beside a record would stand for it, whichever name comes last."""
    seen: set[tuple[str, str, int]] = set()
    for record in runs:
        if (cell := (record.task, record.adapter, record.seed)) in seen:
            raise RecordError(
                f"{suite_folder / 'runs'} holds two records of {record.task}--{record.adapter}--s"
                f"{record.seed}; move the one away that is no result of this suite"
            )
        seen.add(cell)


def _by_place(named: Iterable[tuple[str, Place]]) -> list[str]:
    first: dict[str, Place] = {}
    for name, place in named:
        first[name] = min(place, first.get(name, place))
    return sorted(first, key=lambda name: first[name])


def _refuse_mixed(runs: Iterable[RunRecord]) -> None:
    """A re-run after a change of configuration that is not finished yet must not be averaged."""
    seen: dict[tuple[str, str], dict[str, str]] = {}
    for record in runs:
        config = flatten({key: value for key, value in record.config.items() if key != "seed"})
        config |= _implementation(record)
        first = seen.setdefault((record.task, record.adapter), config)
        if config != first:
            differing = [key for key in sorted({*first, *config}) if first.get(key) != config.get(key)]
            raise RecordError(
                f"the seeds of {record.task}--{record.adapter} differ in {', '.join(differing)}; finish "
                f"`rankbench run` of the suite {record.suite}, which renews the old ones, and delete those "
                "that it does not come to: seeds it no longer has, or that nothing open needs"
            )


def _implementation(record: RunRecord) -> dict[str, str]:
    """What carried the configuration out: the adapter's version, and the content of plug-in files."""
    version = record.identity.get("adapter", {}).get("version")
    return flatten({"adapter": {"version": version}, "plugins": record.identity.get("plugins", {})})


def _refuse_two_baselines(records: Sequence[RunRecord | OverheadRecord]) -> None:
    """A suite says what its methods are set beside; one whose baseline was changed was not run since."""
    if len(said := sorted({record.baseline for record in records})) > 1:
        raise RecordError(
            f"the records disagree on the baseline ({', '.join(said)}); finish `rankbench run` of the suite "
            f"{records[0].suite}, which writes its own into all"
        )


def _surroundings(record: RunRecord) -> dict[str, str]:
    """Packages, the kind of device, and the pretrained weights, which a name alone does not tell; what it is
    scored by, which may be a setting of the task's that is no part of a protocol; and of how many states the
    best one was chosen."""
    kept = ("software", "device", "weights")
    found = flatten({key: value for key, value in record.identity.items() if key in kept})
    training = record.config.get("training", {})
    states = training.get("observe") if training.get("select") == "best" else 1
    return found | {"main metric": record.metrics.main, "chosen of states": str(states)}


def _mixed(records: Iterable[RunRecord]) -> list[str]:
    """What of it differs between the records, some of which outlived an upgrade."""
    seen: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for field, value in _surroundings(record).items():
            seen[field].add(value)
    return sorted(field for field, values in seen.items() if len(values) > 1)


def _groups(task: str, records: list[RunRecord], suite_folder: Path) -> Iterator[Group]:
    """Split a task's runs by protocol, the protocol with most runs first."""
    members: dict[str, list[RunRecord]] = defaultdict(list)
    protocols: dict[str, dict[str, str]] = {}
    mixed = _mixed(records)
    for record in records:
        surroundings = _surroundings(record)
        protocol = flatten({"model": record.model, **record.protocol})
        protocol |= {field: surroundings.get(field, "unknown") for field in mixed}
        key = json.dumps(protocol)
        protocols[key] = protocol
        members[key].append(record)
    fields = sorted({field for protocol in protocols.values() for field in protocol})
    differing = [
        field for field in fields if len({protocol.get(field) for protocol in protocols.values()}) > 1
    ]
    ordered = sorted(members, key=lambda key: (-len(members[key]), key))
    for index, key in enumerate(ordered):
        letter = _letter(index) if len(ordered) > 1 else ""
        runs: Runs = defaultdict(dict)
        for record in members[key]:
            runs[record.adapter][record.seed] = record
        yield Group(task, letter, protocols[key], differing, in_order(runs), suite_folder / "runs")


def _letter(index: int) -> str:
    """A to Z, then AA, as a spreadsheet's columns."""
    before, last = divmod(index, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + last)
