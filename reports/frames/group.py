"""The runs of one task that may be compared, and what they share."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rankbench.bench.records import RunRecord, Scale
from rankbench.reports.frames.contender import Contender, Runs
from rankbench.reports.frames.machine import processor
from rankbench.reports.stats.constant import constant_loss, constant_score
from rankbench.reports.stats.items import Scores, losses_told, main_scores


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
    runs: Runs
    """The baseline first, seeds rising."""
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
    def record(self) -> RunRecord:
        """The first run's, for what all runs of the group share."""
        return next(self.records)

    @property
    def metric(self) -> str:
        """The main one."""
        return self.record.metrics.main

    @property
    def scale(self) -> Scale:
        """Of the main metric."""
        return self.record.metrics.scale

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller main score is better."""
        return self.scale.lower_is_better

    @cached_property
    def contenders(self) -> dict[str, Contender]:
        """By their labels, in the order of `runs`."""
        return {label: Contender(next(iter(runs.values()))) for label, runs in self.runs.items()}

    @cached_property
    def tuned(self) -> set[str]:
        """Labels of methods whose settings a sweep chose, so far as the records say: of a grid the point that
        is left alone. Where none was chosen, for want of a score to choose by, all points are there still."""
        points = Counter(one.method for one in self.contenders.values() if one.is_swept)
        return {
            label
            for label, one in self.contenders.items()
            if one.record.tuned or (one.is_swept and points[one.method] == 1)
        }

    @cached_property
    def task_settings(self) -> dict[str, Any]:
        """The registered name (`task`) and the options of what was trained on."""
        settings: dict[str, Any] = self.record.config.get("task", {})
        return settings

    @property
    def kind(self) -> str | None:
        """The task's registered name, whatever the suite calls it."""
        return self.task_settings.get("task")

    @cached_property
    def baseline(self) -> str | None:
        """Label of what others are compared with: the suite's entry of that name, whatever its adapter; else
        of the adapter's entries the one of the smallest rank. None where the group has none."""
        wanted = self.record.baseline
        found = [one for one in self.contenders.values() if wanted in (one.adapter, one.method)]
        found.sort(key=lambda one: (one.method != wanted, one.adapter != wanted, one.rank or 0, one.label))
        return found[0].label if found else None

    @cached_property
    def plan(self) -> tuple[int, ...]:
        """Numbers of seeds after which what follows from the runs is judged; empty where it was fixed. Of
        records that differ, as those of before the suite had stages, the most looks."""
        return max((tuple(record.stages) for record in self.records), key=len)

    @cached_property
    def scores(self) -> Scores:
        """The main scores, read from the predictions when first asked for. Raises RecordError."""
        return main_scores(self.folder, self.runs)

    @cached_property
    def constant_score(self) -> float | None:
        """What the best constant answer reaches on the test items; None where it is not known."""
        return constant_score(self.folder, self.record)

    @cached_property
    def losses(self) -> Scores:
        """The losses of the test items, by the runs that tell them. Raises RecordError."""
        return losses_told(self.folder, self.runs)

    @cached_property
    def constant_loss(self) -> float | None:
        """Their mean for the best constant answer; None where it is not known."""
        return constant_loss(self.folder, self.record)

    @cached_property
    def elsewhere(self) -> dict[str, list[str]]:
        """Label -> the processors or GPUs of its runs, but for the one that most of the group's runs had."""
        counts = Counter(processor(record.provenance) for record in self.records)
        usual = max(counts, key=lambda name: counts[name])
        others = {
            label: sorted({processor(run.provenance) for run in runs.values()} - {usual})
            for label, runs in self.runs.items()
        }
        return {label: names for label, names in others.items() if names}

    @cached_property
    def ranks(self) -> dict[str, dict[int, str]]:
        """Name -> rank -> label, of every adapter that was run at several ranks and differs in nothing else
        between them. The name is the registered one; a second sweep of it is told by its lowest label."""
        swept: dict[str, dict[int, str]] = defaultdict(dict)
        for label, one in self.contenders.items():
            if one.rank is not None:
                same = {key: value for key, value in one.settings.items() if key != "rank"}
                swept[json.dumps([one.adapter, same], sort_keys=True)][one.rank] = label
        found: dict[str, dict[int, str]] = {}
        for by_rank in swept.values():
            if len(by_rank) > 1:
                lowest = by_rank[min(by_rank)]
                name = self.contenders[lowest].adapter
                found[lowest if name in found else name] = dict(sorted(by_rank.items()))
        return found

    @property
    def is_rank_sweep(self) -> bool:
        """Whether every adapter was run at several ranks."""
        return {label for by_rank in self.ranks.values() for label in by_rank.values()} == {*self.runs}
