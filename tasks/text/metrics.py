"""The metrics that a text's classes or ratings are scored by: ours, scikit-learn's or evaluate's, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankbench.tasks.data.packages import sha256_of
from rankbench.tasks.evaluate_metrics import EVALUATE, of_evaluate
from rankbench.tasks.leave_one_out import item_parts
from rankbench.tasks.metrics import METRICS, OTHERS, Answers, Metric, find, metric, refuse_out_of_range
from rankbench.tasks.options import TaskError, nearest
from rankbench.tasks.sklearn_metrics import (
    SKLEARN,
    is_of_ratings,
    is_sklearns,
    sklearn_name,
    takes_probabilities,
)

Asked: TypeAlias = str | Mapping[str, Any]
"""A name, or `{evaluate: NAME, better: higher or lower, options: {…}}`."""

DEFAULT = {
    "classification": ("accuracy",),
    "regression": ("pearson", "mse"),
    "multi-label": ("f1_micro", "f1_macro"),
}
RATED = ("pearson", "spearman", "mse")
"""Ours that are of numbers."""
OF_TWO = ("f1", "precision", "recall", "jaccard")
"""Metrics of two classes, of which scikit-learn has averages over more."""
ROUGH = ("median_absolute_error", "max_error")
"""A few items decide them, so leaving one out says nothing of their error."""
KEYS = ("evaluate", "better", "options")


class Measures:
    """The metrics of a task, the first being the main one."""

    def __init__(self, kind: str, asked: Asked | Sequence[Asked] | None) -> None:
        """Raises TaskError for a metric that is not known, with the nearest."""
        if asked is None:
            asked = DEFAULT[kind]
        several = [asked] if isinstance(asked, (str, Mapping)) else list(asked)
        if not several:
            raise TaskError("metric: name one at least")
        resolved = [_resolved(each, kind) for each in several]
        self.known = dict(resolved)
        if len(self.known) < len(resolved):
            names = [name for name, _ in resolved]
            twice = next(name for name in names if names.count(name) > 1)
            raise TaskError(f"metric: {twice} is named twice; a table has one column for it: leave one out")
        self.names = tuple(self.known)
        self.scripts = [each["evaluate"] for each in several if isinstance(each, Mapping)]
        self.told: list[Any] = [
            dict(each) if isinstance(each, Mapping) else name
            for each, (name, _) in zip(several, resolved, strict=True)
        ]
        """What was asked for, in full: for a fingerprint."""

    def pin(self) -> dict[str, str]:
        """The hashes of metrics that are scripts on this disk."""
        return {path.name: sha256_of(path) for name in self.scripts for path in _scripts(Path(name))}

    def of(self, split: str, target: NDArray[Any], answers: Answers) -> dict[str, float]:
        """Every metric. Raises TaskError where one is not defined for these targets and answers: no model
        is better than one of no number, so the first would be chosen."""
        values = {name: self._value(name, split, target, answers) for name in self.names}
        for name, value in values.items():
            if not math.isfinite(value):
                rated = answers.probability is None
                what = (
                    "are its ratings all one, or all answers"
                    if rated
                    else "are there items of every class in it"
                )
                raise TaskError(f"metric {name} is {value} on the {split} split; {what}?")
        return values

    def _value(self, name: str, split: str, target: NDArray[Any], answers: Answers) -> float:
        known = self.known[name]
        try:
            if known.judge is not None:
                return known.judge(target, answers)
            assert known.compute is not None
            return float(known.compute(target.astype(float), np.asarray(answers.prediction, float)))
        except TaskError:
            raise
        except ValueError as error:
            reason = next(iter(str(error).splitlines()), "").rstrip(".")
            short = name.split("/")[-1]
            hint = f"; of more than two classes say {short}_macro, say" if short in OF_TWO else ""
            raise TaskError(f"metric {short} cannot score the {split} split: {reason}{hint}") from error

    def check(self, split: str, target: NDArray[Any], classes: int) -> None:
        """Raise TaskError where a metric is not defined on these targets, or is one number whatever is
        answered, as Matthews' correlation of one class is 0: better now than after training. `classes`: how
        many there are, or 0 of ratings."""
        perfect, *others = _extremes(target, classes)
        for name, best in self.of(split, target, perfect).items():
            refuse_out_of_range(name, best)
            if _is_of_others(name):  # it may refuse what no model answers
                continue
            if all(self._value(name, split, target, other) == best for other in others):
                what = "are there items of enough classes in it" if classes else "do its ratings differ"
                raise TaskError(
                    f"metric {name} is {best:g} on the {split} split whatever is answered; {what}?"
                )

    def check_classes(self, names: Sequence[str]) -> None:
        """Raise TaskError for a metric of numbers that would take classes for others than they are, by their
        places: 1, 2 and 5 stars for 0, 1 and 2, names of the alphabet for anything."""
        count = len(names)
        target, prediction = np.tril_indices(count)  # pairs of all classes, which a correlation tells apart
        for name in filter(_is_of_ratings, self.names):
            try:
                own = np.array([float(each) for each in names])
                told: list[float] = [
                    self._value(name, "test", numbers[target], Answers(numbers[prediction]))
                    for numbers in (np.arange(count), own)
                ]
            except TaskError:  # not of these numbers: told where the split is looked at
                continue
            except ValueError:  # the classes are no numbers; of two the share of errors follows from it
                told = [0, int(count > 2)]
            if not math.isclose(*told, rel_tol=1e-6):
                short = name.split("/")[-1]
                raise TaskError(
                    f"metric {short} would take the classes for the numbers 0 to {count - 1}, by their "
                    "places; say kind: regression where they are numbers, or name another metric"
                )

    def parts(self, target: NDArray[Any], answers: Answers) -> NDArray[np.float64] | None:
        """Each item's part of the main metric, (items,); None where predictions tell it or it has none."""
        name = self.names[0]
        known = self.known[name]
        if (known.parts and {*known.parts.columns} <= {"target", "prediction"}) or name.endswith(ROUGH):
            return None
        probable = known.judge is not None and answers.probability is not None and _is_of_probabilities(name)
        seen = answers.probability if probable else answers.prediction

        def score(chosen: NDArray[Any]) -> float:
            chances = None if answers.probability is None else answers.probability[chosen]
            return self._value(name, "test", target[chosen], Answers(answers.prediction[chosen], chances))

        return item_parts(score, target, seen)


def _extremes(target: NDArray[Any], classes: int) -> list[Answers]:
    """A perfect answer to these targets, a wrong one, and others that look at no item."""
    places = np.arange(len(target))
    if not classes:  # as answers are, not whole where all targets are; none is below a target of 0
        return [Answers(target + 0.001), Answers(target.max() - target + 1), Answers(target + 1 + places)]
    if target.ndim == 1:
        told = [target, (target + 1) % classes, places % classes, places // 2 % classes]
        return [Answers(each, np.eye(classes)[each]) for each in told]
    told = [target, 1 - target, (places[:, None] + np.arange(classes)) % 2]
    return [Answers(each.astype(int), each.astype(float)) for each in told]


def _is_of_others(name: str) -> bool:
    """Of evaluate's, or of another package."""
    return name.startswith(EVALUATE) or name in OTHERS.names()


def _is_of_ratings(name: str) -> bool:
    return name in RATED or (name.startswith(SKLEARN) and is_of_ratings(name.removeprefix(SKLEARN)))


def _is_of_probabilities(name: str) -> bool:
    return not name.startswith(EVALUATE) and takes_probabilities(name)


def _resolved(asked: Asked, kind: str) -> tuple[str, Metric]:
    """A metric with its name in records: ours where it splits over items, scikit-learn's, or another's."""
    if isinstance(asked, Mapping):
        return _registered(asked)
    if not isinstance(asked, str):
        raise TaskError(f"metric: give a name, not {asked!r}")
    if asked.startswith(EVALUATE):
        short = asked.removeprefix(EVALUATE)
        raise TaskError(f"metric {asked}: say which way is better: {{evaluate: {short}, better: higher}}")
    ours = find(asked) if kind != "multi-label" else None
    if ours and ours.compute and (ours.parts or not is_sklearns(asked)):
        return asked, ours
    name = sklearn_name(asked)
    if kind == "multi-label" and "log_loss" in name:
        raise TaskError(
            f"metric {asked}: of several labels scikit-learn counts those that an item has, so that all of "
            "them are its best answer; name another, their loss is told beside it"
        )
    return name, metric(name)


def _registered(asked: Mapping[str, Any]) -> tuple[str, Metric]:
    """A metric of evaluate's is not known before a user names it."""
    for key in asked:
        if key not in KEYS:
            raise TaskError(f"a metric has no key {key!r}; {nearest(str(key), KEYS)}")
    name, better, options = asked.get("evaluate"), asked.get("better"), asked.get("options", {})
    if not isinstance(name, str) or better not in ("higher", "lower") or not isinstance(options, Mapping):
        raise TaskError(
            f"metric: {dict(asked)!r} is not {{evaluate: NAME, better: higher or lower, options: {{…}}}}"
        )
    made = of_evaluate(name, better == "lower", dict(options))
    before = METRICS.setdefault(EVALUATE + name, made)
    if before.lower_is_better != made.lower_is_better:
        raise TaskError(f"metric {EVALUATE + name}: one place says higher is better, another lower; say one")
    return EVALUATE + name, made


def _scripts(place: Path) -> list[Path]:
    """The Python files of a metric on this disk, as `evaluate.load` finds it; none of one on the hub."""
    if place.is_file():
        return [place]
    return sorted(place.glob("*.py")) if place.is_dir() else []
