"""Trials of a suite's `tune`: what was drawn for a method, what each trial scored on the selection items, and
into which runs the best went."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rankbench.bench.records import RunRecord, Scale, is_trial
from rankbench.reports.frames import Suite
from rankbench.reports.frames.contender import by_size
from rankbench.reports.stats.sweep import expected_best

SUFFIX = "-trials"
"""Of an experiment's name: what its trials are an experiment of."""

Into = Mapping[tuple[str, str], int]
"""Task and label -> runs."""


@dataclass(frozen=True)
class Tuned:
    """One method's trials on one experiment; those that were stopped early are counted alone."""

    trials: Sequence[RunRecord]
    """Of full length."""
    stopped: int
    failed: int
    into: Into
    """The runs that the best trial's settings went into."""

    @property
    def scored_by(self) -> str:
        """The loss of the selection items, or the main metric where there is no such loss."""
        metrics = self.trials[0].metrics
        return metrics.held_out or metrics.main

    @property
    def scale(self) -> Scale:
        """Of what they are scored by."""
        return self.trials[0].metrics.scales[self.scored_by]

    @property
    def scores(self) -> list[float]:
        """One a trial."""
        return [trial.metrics.best[self.scored_by] for trial in self.trials]

    @property
    def best(self) -> RunRecord:
        """The trial that chose; the first of equals."""
        scores = self.scores
        return self.trials[scores.index(min(scores) if self.scale.lower_is_better else max(scores))]

    @property
    def expected(self) -> list[float]:
        """Score expected of the best of 1, 2, … trials; one that failed, or was stopped for the others were
        better, is as bad as the worst of these: left out, it would make a lone trial look like a survivor."""
        scores = self.scores
        worst = max(scores) if self.scale.lower_is_better else min(scores)
        every = scores + [worst] * (self.failed + self.stopped)
        return [float(best) for best in expected_best(every, lower_is_better=self.scale.lower_is_better)]

    @property
    def widened(self) -> int:
        """How often ranges had grown when the last trial was drawn."""
        return max(trial.widened for trial in self.trials)

    @property
    def drawn(self) -> list[str]:
        """The hyperparameters, in the order of the first trial's record."""
        return [*self.trials[0].point]

    def tried(self, key: str) -> list[Any]:
        """A hyperparameter's value of each trial."""
        return [trial.point[key] for trial in self.trials]

    @property
    def edges(self) -> list[str]:
        """The hyperparameters of which the best trial has the lowest or highest value tried."""
        return [
            key
            for key in self.drawn
            if self.best.point[key] in (min(values := self.tried(key)), max(values)) and len({*values}) > 1
        ]


def tunings(suite: Suite) -> dict[str, dict[str, Tuned]]:
    """Experiment -> method -> its trials, for the methods with a finished one of full length."""
    finished: dict[str, dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in suite.tried:
        finished[record.task][record.method].append(record)
    into = _into(suite)
    return {
        task.removesuffix(SUFFIX): {
            method: _tuned(methods[method], _failed(suite, task, method), into)
            for method in sorted(methods, key=lambda name: (name != suite.baseline, by_size(name)))
        }
        for task, methods in sorted(finished.items())
    }


def _tuned(records: Sequence[RunRecord], failed: set[str], into: Mapping[str, Into]) -> Tuned:
    length = max(_steps(record) for record in records)
    whole = [record for record in records if _steps(record) == length]
    ended = {_trial(record.adapter) for record in whole} | failed
    stopped = {_trial(record.adapter) for record in records} - ended
    found = Tuned(whole, len(stopped), len(failed), {})
    return replace(found, into=into.get(found.best.fingerprint, {}))


def _trial(label: str) -> str:
    """Which trial a run is of, be it a shorter one."""
    return re.sub(r"(-t\d+)-r\d+$", r"\1", label)


def _failed(suite: Suite, task: str, method: str) -> set[str]:
    """Trials without a result: their records name no method, but their labels begin with it."""
    labels = (one.adapter for one in suite.failures if is_trial(one) and one.task == task)
    named = rf"{re.escape(method)}-t\d+(-r\d+)?"
    return {_trial(label) for label in labels if re.fullmatch(named, label)}


def _steps(record: RunRecord) -> int:
    return int(record.config.get("training", {}).get("steps", record.metrics.last_step))


def _into(suite: Suite) -> dict[str, dict[tuple[str, str], int]]:
    """Fingerprint of a trial -> the runs that it was among the choosers of."""
    found: dict[str, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    for record in suite.records:
        for trial in record.chosen_by:
            found[trial][record.task, record.adapter] += 1
    return found
