"""The quantities that claims are decided by, each read from records: one value a seed, or a process.

`MEASUREMENTS` names them; `settings` gives what a suite's records hold of one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from rankbench.bench.records.schema import OverheadRecord, RunRecord
from rankbench.reports.frames import Contender, Group, Suite
from rankbench.reports.stats.matrices import first_feed_forward_lead
from rankbench.reports.stats.processes import means
from rankbench.reports.stats.steps_to_loss import losses
from rankbench.reports.stats.summary import smooth

Facts = dict[str, float]
Values = Mapping[str, Mapping[int, ArrayLike]]
Kind = Literal["run", "sweep", "time", "memory"]


@dataclass(frozen=True)
class Setting:
    """Where a quantity was measured: a task under one protocol, or one measurement of overhead."""

    task: str
    name: str
    """The task, with the protocol's letter where it has several."""
    model: str
    values: Values
    """Method's label -> seed (or process) -> value, or values per test item."""
    facts: dict[str, Facts]
    """Method's label -> `rank` and adapter `parameters`, as far as they are known."""
    differing: list[str] = field(default_factory=list)
    """Protocol fields that tell the task's settings apart."""
    given: dict[str, dict[str, object]] = field(default_factory=dict)
    """Method's label -> the adapter's registered name and its hyperparameters, the learning rate included."""
    tuned: frozenset[str] = frozenset()
    """Labels of the methods whose settings a sweep chose, so far as the records say."""
    tuning_unknown: frozenset[str] = frozenset()
    """Labels of those whose records are of before suites said so."""
    constant: float | None = None
    """Of a score: what the best constant answer reaches; None where it is not known."""
    pretrained: bool = True
    """Whether the model's weights were learned before."""


@dataclass(frozen=True)
class Measurement:
    """A quantity of a run, of a sweep over ranks, or of a measurement of overhead."""

    kind: Kind
    unit: str
    larger_is_better: bool
    contrast: Literal["difference", "ratio"] = "difference"
    """How two methods are compared, seed by seed."""
    exact: bool = False
    """Fixed by the configuration: no spread over seeds."""
    by_item: bool = False
    """A score, which test items share: read item by item where the runs left their predictions."""
    run: Callable[[RunRecord], float | None] | None = None
    """Of a finished run; None where the run does not have it."""
    point: Callable[[RunRecord], float | None] | None = None
    """Of one rank of a sweep: the measurement is its slope over log2 of the rank."""
    curve: Callable[[RunRecord], ArrayLike | None] | None = None
    """Of a run's falling losses: two methods are compared by their steps to one loss."""


def settings(measurement: Measurement, suite: Suite) -> Iterator[Setting]:
    """Every setting of a suite in which a method has the quantity."""
    if measurement.kind in ("time", "memory"):
        found = [_of_overhead(measurement, record) for record in suite.overhead]
    else:
        found = [_of_group(measurement, group) for group in suite.groups]
    return (setting for setting in found if setting.values)


def _of_group(measurement: Measurement, group: Group) -> Setting:
    values: dict[str, dict[int, ArrayLike]] = {}
    if measurement.by_item:
        values = _points(group)
    elif read := measurement.run or measurement.curve:
        for label, runs in group.runs.items():
            found = ((seed, read(record)) for seed, record in runs.items())
            values[label] = {seed: value for seed, value in found if value is not None}
    elif measurement.point:
        for name, labels in group.ranks.items():
            ranks = {rank: group.runs[label] for rank, label in labels.items()}
            values[name] = {**_slopes(ranks, measurement.point)}
    # A sweep over ranks has the settings that its ranks share; those of its lowest stand for them.
    lowest = {name: labels[min(labels)] for name, labels in group.ranks.items()}
    contenders = {
        name: group.contenders[label]
        for name, label in (lowest if measurement.point else {each: each for each in group.runs}).items()
    }
    constant = group.constant_score if measurement.by_item else None
    return Setting(
        group.task,
        group.name,
        group.protocol["model"],
        {label: found for label, found in values.items() if found},
        {label: _facts(one) for label, one in contenders.items()},
        group.differing,
        {label: {"name": one.adapter, **one.settings} for label, one in contenders.items()},
        frozenset(label for label, one in contenders.items() if one.is_tuned),
        frozenset(label for label, one in contenders.items() if not one.says_who_tuned),
        None if constant is None else 100 * constant,
        all(one.is_pretrained for one in contenders.values()),
    )


def _of_overhead(measurement: Measurement, record: OverheadRecord) -> Setting:
    """A process has one value: a time is its mean, which counts what is not done in every step."""
    costs = (
        {label: means(processes) for label, processes in record.seconds.items()}
        if measurement.kind == "time"
        else record.peak_resident
    )
    values = {label: dict(enumerate(processes)) for label, processes in costs.items()}
    adapters = record.config.get("adapters", {})
    facts: dict[str, Facts] = {}
    given: dict[str, dict[str, object]] = {}
    for label in values:
        own = adapters[label] if isinstance(adapters, dict) and label in adapters else {}
        given[label] = {"name": label, **own}
        facts[label] = {"rank": own["rank"]} if "rank" in own else {}
        if label in record.parameters:
            facts[label]["parameters"] = record.parameters[label]
    return Setting(record.name, record.name, record.model, values, facts, given=given)


def _facts(one: Contender) -> Facts:
    return {"parameters": one.parameters} | ({"rank": one.settings["rank"]} if "rank" in one.settings else {})


def _slopes(
    ranks: Mapping[int, Mapping[int, RunRecord]], point: Callable[[RunRecord], float | None]
) -> dict[int, float]:
    """Least-squares slope per doubling of the rank, for the seeds that have every rank."""
    slopes = {}
    for seed in sorted(set.intersection(*(set(runs) for runs in ranks.values()))):
        read = [point(runs[seed]) for runs in ranks.values()]
        values = [value for value in read if value is not None]
        if len(values) == len(ranks):
            slopes[seed] = float(np.polyfit(np.log2(list(ranks)), values, 1)[0])
    return slopes


def _points(group: Group) -> dict[str, dict[int, ArrayLike]]:
    """The main scores ×100, item by item if possible; nothing where the main metric is an error."""
    if not group.scale.percent:
        return {}
    return {
        label: {seed: 100 * score for seed, score in found.items()} for label, found in group.scores.items()
    }


def _final_loss(record: RunRecord) -> float | None:
    """Mean of the last tenth of the steps."""
    return float(smooth(record.curve.loss)[-1]) if record.curve.loss else None


def _score(record: RunRecord) -> float | None:
    metrics = record.metrics
    if not metrics.scale.percent:
        return None
    return 100 * metrics.best[metrics.main]


def _log_error(record: RunRecord) -> float | None:
    metrics = record.metrics
    error = metrics.best[metrics.main]
    return math.log2(error) if metrics.scale.lower_is_better and error > 0 else None


def _ranks(record: RunRecord) -> list[int]:
    """Of the probed layers, when they were last measured."""
    probes = [list(seen.accumulated_rank.values()) for seen in record.observations if seen.accumulated_rank]
    return probes[-1] if probes else []


def _rank_over_r(record: RunRecord) -> float | None:
    ranks = _ranks(record)
    return statistics.fmean(ranks) / record.rank if ranks and record.rank else None


def _largest_rank(record: RunRecord) -> float | None:
    return max(_ranks(record), default=None)


def _share(key: str) -> Callable[[RunRecord], float | None]:
    """Mean over steps of a diagnostic `{step: […], share: […]}`, in percent."""

    def read(record: RunRecord) -> float | None:
        block = record.diagnostics.get(key)
        return (
            100 * statistics.fmean(block["share"]) if isinstance(block, dict) and block.get("share") else None
        )

    return read


def _gradient_rank_share(record: RunRecord) -> float | None:
    """Percent of layers and observations at which the gradient's rank is 2r or more, but for layers of which
    one position an input reaches the loss (`Observation.one_position`): the batch bounds theirs. None of
    records of schema 1, which do not name those layers."""
    r, named = record.rank, record.schema_version > 1
    ranks = [rank for seen in record.observations for rank in seen.judged_gradient_rank.values()]
    return 100 * statistics.fmean(rank >= 2 * r for rank in ranks) if ranks and r and named else None


def _first_feed_forward_lead(record: RunRecord) -> float | None:
    left = record.diagnostics.get("rank")
    return first_feed_forward_lead(left) if isinstance(left, dict) else None


def _parameter_share(record: RunRecord) -> float | None:
    counts = record.parameters
    return 100 * counts.adapter / (counts.total - counts.adapter) if counts.adapter < counts.total else None


def _scores_saved(record: RunRecord) -> float | None:
    saved = record.diagnostics.get("scores_saved")
    return 100 * saved if isinstance(saved, float) else None


def _penalty_left(record: RunRecord) -> float | None:
    penalty = record.curve.penalty
    return float(smooth(penalty)[-1]) / penalty[0] if penalty and penalty[0] > 0 else None


def _log_gradient_norm(record: RunRecord) -> float | None:
    norms = record.curve.gradient_norm
    return math.log2(statistics.fmean(norms)) if norms and statistics.fmean(norms) > 0 else None


MEASUREMENTS: dict[str, Measurement] = {
    "final_loss": Measurement("run", "loss", False, "ratio", run=_final_loss),
    "score": Measurement("run", "points", True, by_item=True, run=_score),
    "error": Measurement("run", "log2 of the error", False, run=_log_error),
    "accumulated_rank": Measurement("run", "rank, largest layer", True, run=_largest_rank),
    "accumulated_rank_over_r": Measurement("run", "× r", True, run=_rank_over_r),
    "nonnegative_share": Measurement("run", "percent", True, run=_share("nonnegative_share")),
    "gradient_rank_share": Measurement("run", "percent", True, run=_gradient_rank_share),
    "parameter_share": Measurement("run", "percent", False, exact=True, run=_parameter_share),
    "scores_saved": Measurement("run", "percent", True, exact=True, run=_scores_saved),
    "steps_to_loss": Measurement("run", "steps", False, "ratio", curve=losses),
    "first_feed_forward_lead": Measurement("run", "singular values", True, run=_first_feed_forward_lead),
    "penalty_left": Measurement("run", "× the first", False, run=_penalty_left),
    "final_loss_slope": Measurement("sweep", "loss per doubling", False, point=_final_loss),
    "gradient_norm_slope": Measurement("sweep", "log2 per doubling", True, point=_log_gradient_norm),
    "step_time": Measurement("time", "seconds", False, "ratio"),
    "peak_memory": Measurement("memory", "MiB", False, "ratio"),
}
