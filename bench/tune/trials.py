"""The trials of an experiment, round by round: drawn, looked up, and drawn anew where ranges have grown.

Nothing is kept but the trials' own records: what is due follows from these, so a command that was killed goes
on where it was. Every entry has as many trials as the others in every round.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rankbench.bench.records import Folders
from rankbench.bench.suite import AdapterSpec, ConfigError, RunSpec, Suite, plan
from rankbench.bench.suite.tuning import Span, refused, space_of, trials_of
from rankbench.bench.tune.choices import Choice, kept
from rankbench.bench.tune.choose import Trial, best, ended
from rankbench.bench.tune.draw import Shares, point, sequence
from rankbench.bench.tune.widen import added, grown

IN_VAIN = 1000
"""Points in a row that an adapter refuses, after which it takes none."""


def trial_rounds(suite: Suite, folders: Folders) -> Iterator[list[RunSpec]]:
    """The trials of a suite, each list to be done before the next one is asked for; with the first those that
    have failed, for whoever does the runs to count them or to try them again. No trial is given twice.

    Raises ConfigError for choices that cannot be read, and for ranges of which an adapter takes no point;
    RecordError for a corrupt record.
    """
    tried: set[str] = set()
    while True:
        found = [search(suite, name, folders, kept(suite, name), tried) for name in tuned(suite)]
        listed = [spec for each in found for spec in (*each.due, *each.failed) if spec.cell not in tried]
        if not listed:
            return
        yield listed
        tried |= {spec.cell for spec in listed}


def next_trials(suite: Suite, folders: Folders) -> list[RunSpec]:
    """The trials that are due now: those of the first round that is not complete, of every experiment. None
    where all choices can be made, or come with the suite. Raises as `trial_rounds` does."""
    found = [search(suite, name, folders, kept(suite, name)) for name in tuned(suite)]
    return [spec for each in found for spec in each.due]


def tuned(suite: Suite) -> list[str]:
    """The experiments that have a `tune` block."""
    return [name for name, experiment in suite.experiments.items() if experiment.tune]


@dataclass
class Entry:
    """One entry, and how far its search is."""

    label: str
    spec: AdapterSpec
    space: dict[str, Span]
    places: Iterator[Shares]
    """Of the points that come next."""
    lengths: Sequence[int]
    """Steps of a trial, the shorter ones too."""
    points: list[dict[str, Any]] = field(default_factory=list)
    """All that were drawn."""
    trials: list[Trial] = field(default_factory=list)
    """Those of full length, ended."""
    failed: list[RunSpec] = field(default_factory=list)
    widened: int = 0
    """How often ranges have grown."""

    def at(self, point: dict[str, Any]) -> AdapterSpec:
        """Its adapter at a point."""
        return self.spec.model_copy(
            update={**point, "method": self.label, "point": point, "widened": self.widened}
        )

    def draw(self, count: int) -> dict[str, dict[str, Any]]:
        """So many points more, by the labels of their trials."""
        first = len(self.points)
        self.points += [self._next() for _ in range(count)]
        return {f"{self.label}-t{number:02d}": self.points[number] for number in range(first, first + count)}

    def _next(self) -> dict[str, Any]:
        """The next point that the adapter takes: it may refuse values together that it takes one by one."""
        for place in itertools.islice(self.places, IN_VAIN):
            if self.takes(found := point(self.space, place)):
                return found
        raise ConfigError(
            f"tune: {self.label} refuses {IN_VAIN} points in a row, such as {found}: "
            f"{self._fault(found)}; give other ranges under `tune: space`"
        )

    def takes(self, point: Mapping[str, Any]) -> bool:
        """Whether the adapter can be made with these values."""
        return not self._fault(point)

    def _fault(self, point: Mapping[str, Any]) -> str:
        faults = (refused(self.spec, dict(point), steps) for steps in self.lengths)
        return next(filter(None, faults), "")


@dataclass(frozen=True)
class Search:
    """An experiment's trials as they stand."""

    due: list[RunSpec]
    """Of the round that is not complete."""
    entries: dict[str, Entry]

    @property
    def failed(self) -> list[RunSpec]:
        """Those that ended without a result."""
        return [spec for entry in self.entries.values() for spec in entry.failed]


def search(
    suite: Suite, name: str, folders: Folders, choices: dict[str, Choice], tried: Container[str] = ()
) -> Search:
    """Those of the entries that have something to be chosen and no choice yet. Beside entries with choices
    they have as many rounds as these had. A failure for want of memory or data, which may be there the next
    time, ends a trial where its cell is one of those `tried`."""
    experiment = suite.experiments[name]
    tune = experiment.tune
    assert tune is not None
    lengths = tune.rungs.steps(experiment.training.steps)
    entries = {
        label: Entry(label, spec, space, sequence(len(space), name, label, tune.seed), lengths)
        for label, spec in experiment.adapters.items()
        if (space := space_of(spec, tune)) and label not in choices
    }
    before = max((choice.trials for choice in choices.values()), default=None)
    for turn in range(1, tune.widen + 2):
        count = tune.trials if turn == 1 else tune.extra
        lists = [_due(suite, name, entry, entry.draw(count), folders, tried) for entry in entries.values()]
        rows = itertools.zip_longest(*lists)  # every method's first before any one's second
        if due := [spec for row in rows for spec in row if spec]:
            return Search(due, entries)
        wider = {label: _wider(entry) for label, entry in entries.items()}
        at_an_edge = any(wider[label] != entry.space for label, entry in entries.items())
        drawn = tune.trials + (turn - 1) * tune.extra
        if not (at_an_edge if before is None else drawn < before):
            break
        for label, entry in entries.items():
            entry.widened = turn
            places = sequence(len(entry.space), name, label, tune.seed, turn)
            if wider[label] != entry.space:
                _grow(entry, wider[label], places)
            elif entry.space != space_of(entry.spec, tune):  # it drew in what was added last, and alone there
                entry.places = places
    return Search([], entries)


def _due(
    suite: Suite,
    name: str,
    entry: Entry,
    points: dict[str, dict[str, Any]],
    folders: Folders,
    tried: Container[str],
) -> list[RunSpec]:
    """Those of a round's trials that are next: of its first rung that is not complete. Where all are, the
    entry takes those of full length."""
    experiment = suite.experiments[name]
    tune = experiment.tune
    assert tune is not None
    going_on, results = list(points), list[Trial]()
    for rung, steps in enumerate(tune.rungs.steps(experiment.training.steps)):
        end = f"-r{rung}" if rung < tune.rungs.rungs else ""
        going_on = going_on[: tune.rungs.going_on(len(points))[rung]]
        specs = _runs(suite, name, steps, {label + end: entry.at(points[label]) for label in going_on})
        found = [ended(spec, folders, however=spec.cell in tried) for spec in specs]
        if due := [spec for spec, result in zip(specs, found, strict=True) if result is None]:
            return due
        results = [result for result in found if result]
        entry.failed += [result.spec for result in results if not result.finished]
        ranked = sorted(zip(results, going_on, strict=True), key=lambda each: each[0].loss)
        going_on = [label for result, label in ranked if result.finished]
    drawn = [*points]  # of equals the first is the best
    entry.trials += sorted(results, key=lambda one: drawn.index(one.spec.label))
    return []


def _runs(suite: Suite, name: str, steps: int, adapters: dict[str, AdapterSpec]) -> list[RunSpec]:
    """The experiment's runs as trials, one of each of these adapters."""
    experiment = suite.experiments[name]
    assert experiment.tune is not None
    trials = experiment.model_copy(
        update={
            "adapters": adapters,
            "seeds": [experiment.tune.seed],
            "training": experiment.training.model_copy(update={"steps": steps}),
        }
    )
    alone = suite.model_copy(update={"experiments": {trials_of(name): trials}})
    changes = {"scored_on": experiment.tune.on, "save": False}
    return [spec.model_copy(update=changes) for spec in plan(alone)]


def _wider(entry: Entry) -> dict[str, Span]:
    """The space of an entry's next round."""
    first = best(entry.trials)
    if first is None:
        return entry.space
    return grown(entry.space, first.spec.adapter.point, entry.points, entry.takes)


def _grow(entry: Entry, wider: dict[str, Span], places: Iterator[Shares]) -> None:
    """Draw from now on in what was added."""
    space, entry.space = entry.space, wider
    entry.places = (place for place in places if added(space, wider, place))
