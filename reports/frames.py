"""The records of one suite, sorted into groups of runs that may be compared."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rankbench.bench.records.schema import (
    FailureRecord,
    OverheadRecord,
    RecordError,
    RunRecord,
    Scale,
    read_record,
    read_runs,
)
from rankbench.reports.stats.items import Scores, constant_score, main_scores

BASELINE = "lora"
"""Every difference and ratio of the report is taken to this adapter (`Group.baseline`)."""


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one task under one protocol: they, and only they, share a table."""

    task: str
    letter: str
    """Which of the task's protocols; empty where the task has one."""
    protocol: dict[str, str]
    """Flattened, the model included."""
    differing: list[str]
    """Protocol fields that tell this task's groups apart."""
    runs: dict[str, dict[int, RunRecord]]
    """Adapter -> seed -> record, the baseline first, seeds rising."""
    folder: Path
    """Of the records and their predictions."""

    @property
    def name(self) -> str:
        """How tables and captions call the group."""
        return f"{self.task} ({self.letter})" if self.letter else self.task

    @property
    def file_name(self) -> str:
        """The group's part of a figure's file name."""
        return f"{self.task}--{self.letter}" if self.letter else self.task

    @property
    def records(self) -> Iterator[RunRecord]:
        """Every run of the group."""
        return (record for runs in self.runs.values() for record in runs.values())

    @property
    def metric(self) -> str:
        """The main one."""
        return next(self.records).metrics.main

    @property
    def scale(self) -> Scale:
        """Of the main metric."""
        return next(self.records).metrics.scale

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller main score is better."""
        return self.scale.lower_is_better

    def first(self, label: str) -> RunRecord:
        """The run of a label's first seed; its settings are those of all."""
        return next(iter(self.runs[label].values()))

    @cached_property
    def baseline(self) -> str | None:
        """Label of the plain LoRA that others are compared with: of several the one that the suite calls
        `lora`, else that of the smallest rank. None where the group has none."""
        found = [label for label in self.runs if self.first(label).settings["name"] == BASELINE]
        return min(
            found,
            key=lambda label: (self.first(label).method != BASELINE, self.first(label).rank or 0, label),
            default=None,
        )

    @cached_property
    def scores(self) -> Scores:
        """The main scores, read from the predictions when first asked for. Raises RecordError."""
        return main_scores(self.folder, self.runs)

    @cached_property
    def constant_score(self) -> float | None:
        """What the best constant answer reaches on the test items; None where it is not known."""
        return constant_score(self.folder, next(self.records))

    @cached_property
    def ranks(self) -> dict[str, dict[int, str]]:
        """Name -> rank -> label, of every adapter that was run at several ranks and differs in nothing else
        between them. The name is the registered one; a second sweep of it is told by its lowest label."""
        swept: dict[str, dict[int, str]] = defaultdict(dict)
        for label in self.runs:
            first = self.first(label)
            if first.rank is not None:
                shared = {"learning_rate": first.config.get("learning_rate"), **first.settings}
                swept[json.dumps({k: v for k, v in shared.items() if k != "rank"}, sort_keys=True)][
                    first.rank
                ] = label
        found: dict[str, dict[int, str]] = {}
        for by_rank in swept.values():
            if len(by_rank) > 1:
                lowest = by_rank[min(by_rank)]
                name = self.first(lowest).settings["name"]
                found[lowest if name in found else name] = dict(sorted(by_rank.items()))
        return {name: found[name] for name in in_order(found)}

    @property
    def is_rank_sweep(self) -> bool:
        """Whether every adapter was run at several ranks."""
        return {label for by_rank in self.ranks.values() for label in by_rank.values()} == {*self.runs}


@dataclass(frozen=True)
class Suite:
    """Everything that a report is made from."""

    name: str
    groups: list[Group]
    overhead: list[OverheadRecord]
    failures: list[FailureRecord]

    @property
    def records(self) -> list[RunRecord]:
        """Every finished run."""
        return [record for group in self.groups for record in group.records]


def load(suite_folder: Path) -> Suite:
    """Read `runs/`, `overhead/` and `failed/`.

    Raises RecordError where a record is unreadable, there is none at all, or the seeds of one cell
    were run under different configurations.
    """
    runs = list(read_runs(suite_folder))
    overhead = [
        read_record(path, OverheadRecord) for path in sorted((suite_folder / "overhead").glob("*.json"))
    ]
    failures = [read_record(path, FailureRecord) for path in sorted((suite_folder / "failed").glob("*.json"))]
    if not (runs or overhead or failures):
        raise RecordError(f"no records under {suite_folder}; run `rankbench run {suite_folder.name}` first")
    _refuse_mixed(runs)
    by_task: dict[str, list[RunRecord]] = defaultdict(list)
    for record in runs:
        by_task[record.task].append(record)
    groups = [group for task in sorted(by_task) for group in _groups(task, by_task[task], suite_folder)]
    return Suite(suite_folder.resolve().name, groups, overhead, failures)


def _refuse_mixed(runs: Iterable[RunRecord]) -> None:
    """A re-run after a change of configuration that is not finished yet must not be averaged."""
    seen: dict[tuple[str, str], dict[str, str]] = {}
    for record in runs:
        config = flatten({key: value for key, value in record.config.items() if key != "seed"})
        first = seen.setdefault((record.task, record.adapter), config)
        differing = [key for key in sorted({*first, *config}) if first.get(key) != config.get(key)]
        if differing:
            raise RecordError(
                f"the seeds of {record.task}--{record.adapter} differ in {', '.join(differing)}; "
                f"finish `rankbench run {record.suite}`, which renews the old ones"
            )


def _surroundings(record: RunRecord) -> dict[str, str]:
    """Packages and the kind of device."""
    kept = ("software", "device")
    return flatten({key: value for key, value in record.identity.items() if key in kept})


def _mixed(records: Iterable[RunRecord]) -> list[str]:
    """The packages that differ in version between the records, some of which outlived an upgrade."""
    seen: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for field, value in _surroundings(record).items():
            seen[field].add(value)
    return sorted(field for field, values in seen.items() if len(values) > 1)


def flatten(block: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested block as dotted keys and printable values."""
    flat: dict[str, str] = {}
    for key in sorted(block):
        value = block[key]
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return flat


def in_order(labels: Iterable[str]) -> list[str]:
    """Distinct labels, the baseline first, numbers by their size."""
    return sorted(set(labels), key=lambda label: (label != BASELINE, _natural(label), label))


def _natural(label: str) -> list[tuple[float, str]]:
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", label)
    return [(float(part), "") if i % 2 else (-1.0, part) for i, part in enumerate(parts)]


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
        letter = chr(ord("A") + index) if len(ordered) > 1 else ""
        runs = {
            adapter: {
                record.seed: record
                for record in sorted(members[key], key=lambda record: record.seed)
                if record.adapter == adapter
            }
            for adapter in in_order(record.adapter for record in members[key])
        }
        yield Group(task, letter, protocols[key], differing, runs, suite_folder / "runs")
