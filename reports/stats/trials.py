"""Trials of a suite's `tune`: what was drawn for a method, what each trial scored on the selection items, and
into which runs the best went."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rankbench.bench.records import FailureRecord, RunRecord, Scale, is_trial
from rankbench.reports.frames import Suite
from rankbench.reports.frames.contender import by_size
from rankbench.reports.stats.sweep import expected_best

SUFFIX = "-trials"
"""Of an experiment's name: what its trials are an experiment of."""

SHORTER = re.compile(r"(-t\d+)-r\d+$")
"""What the label of a trial's shorter run ends with."""

Into = Mapping[tuple[str, str], int]
"""Task and label -> runs."""


@dataclass(frozen=True)
class Tuned:
    """One method's trials on one experiment."""

    trials: Sequence[RunRecord]
    """Of full length."""
    points: Sequence[Mapping[str, Any]]
    """All that were drawn, those of trials that were stopped early or failed too."""
    stopped: int
    failed: int
    into: Into
    """The runs that the best trial's settings went into."""

    @property
    def scored_by(self) -> str:
        """The loss of the selection items, or the main metric where there is no such loss."""
        return _scored_by(self.trials[0])

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
        """The trial that chose."""
        return _best(self.trials)

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

    def ends(self, key: str) -> tuple[Any, Any]:
        """A hyperparameter's lowest and highest value tried."""
        values = [point[key] for point in self.points if key in point]
        return min(values), max(values)

    @property
    def edges(self) -> list[str]:
        """The hyperparameters of which the best trial has the lowest or highest value tried."""
        ends = {key: {*self.ends(key)} for key in self.drawn}
        return [key for key in self.drawn if self.best.point[key] in ends[key] and len(ends[key]) > 1]


def tunings(suite: Suite) -> dict[str, dict[str, Tuned]]:
    """Experiment -> method -> its trials, for the methods with a finished one of full length."""
    finished: dict[str, dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in suite.tried:
        finished[record.task][record.method].append(record)
    into = _into(suite)
    found: dict[str, dict[str, Tuned]] = {}
    for task, methods in sorted(finished.items()):
        of_task = found.setdefault(task.removesuffix(SUFFIX), {})
        for method in sorted(methods, key=lambda name: (name != suite.baseline, by_size(name))):
            if tuned := _tuned(methods[method], _failed(suite, task, method), into):
                of_task[method] = tuned
    return {task: methods for task, methods in found.items() if methods}


def _tuned(
    records: Sequence[RunRecord], failures: Sequence[FailureRecord], into: Mapping[str, Into]
) -> Tuned | None:
    """Of the trials that chose the settings of runs, with the shorter and failed ones of their search: others
    may lie there still, of before the suite was changed. None where none has its full length."""
    whole = [record for record in records if not SHORTER.search(record.adapter)]
    if chose := [record for record in whole if record.fingerprint in into]:
        whole, drawn = chose, chose[0].point
        made = _made(chose[0], drawn)
        records = [one for one in records if _made(one, drawn) == made]
        failures = [one for one in failures if _made(one, drawn) == made]
    longest = max(map(_steps, whole), default=0)
    whole = [record for record in whole if _steps(record) == longest]
    if not whole:
        return None
    done, keys = {_trial(one) for one in whole}, whole[0].point.keys()
    failed = {trial: _drawn(one, keys) for one in failures if (trial := _trial(one)) not in done}
    shorter = {_trial(one): one.point for one in records if SHORTER.search(one.adapter)}
    stopped = {trial: point for trial, point in shorter.items() if trial not in {*done, *failed}}
    points = [*(one.point for one in whole), *stopped.values(), *failed.values()]
    return Tuned(whole, points, len(stopped), len(failed), into.get(_best(whole).fingerprint, {}))


def _best(trials: Sequence[RunRecord]) -> RunRecord:
    """Of equals the one that was drawn first, as it is chosen."""
    name = _scored_by(trials[0])
    sign = 1 if trials[0].metrics.scales[name].lower_is_better else -1
    return min(trials, key=lambda one: (sign * one.metrics.best[name], by_size(one.adapter)))


def _scored_by(trial: RunRecord) -> str:
    return trial.metrics.held_out or trial.metrics.main


def _made(record: RunRecord | FailureRecord, drawn: Container[str]) -> list[Any]:
    """What all trials of one search share, whatever was drawn and however long they are."""
    training = {**record.config.get("training", {}), "steps": None}
    own = {"learning_rate", "total_steps"}
    settings = {
        key: value
        for key, value in record.config.get("adapter", {}).items()
        if key not in own and key not in drawn
    }
    return [training, settings, *(record.config.get(key) for key in ("task", "model", "targets"))]


def _trial(record: RunRecord | FailureRecord) -> str:
    """The label of the trial that it is of, be it a shorter run."""
    return SHORTER.sub(r"\1", record.adapter)


def _drawn(failure: FailureRecord, keys: Iterable[str]) -> dict[str, Any]:
    """Hyperparameter -> value, of those that its record has."""
    said = {**failure.config.get("adapter", {}), "learning_rate": failure.config.get("learning_rate")}
    return {key: said[key] for key in keys if said.get(key) is not None}


def _failed(suite: Suite, task: str, method: str) -> list[FailureRecord]:
    """Trials without a result: their records name no method, but their labels begin with it."""
    failures = [one for one in suite.failures if is_trial(one) and one.task == task]
    return [one for one in failures if re.fullmatch(rf"{re.escape(method)}-t\d+(-r\d+)?", one.adapter)]


def _steps(record: RunRecord) -> int:
    return int(record.config.get("training", {}).get("steps", record.metrics.last_step))


def _into(suite: Suite) -> dict[str, dict[tuple[str, str], int]]:
    """Fingerprint of a trial -> the runs that it was among the choosers of."""
    found: dict[str, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    for record in suite.records:
        for trial in record.chosen_by:
            found[trial][record.task, record.adapter] += 1
    return found
