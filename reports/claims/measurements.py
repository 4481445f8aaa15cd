"""The quantities that claims are decided by, each a function of a record; a new one is one entry here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from numpy.typing import ArrayLike

from rankbench.bench.records import RunRecord
from rankbench.reports.frames import Overhead
from rankbench.reports.stats.costs import means
from rankbench.reports.stats.items import mean_loss
from rankbench.reports.stats.matrices import first_feed_forward_lead as lead_of
from rankbench.reports.stats.summary import losses, smooth

Kind = Literal["run", "score", "loss", "curve", "slope", "overhead"]
Read = TypeVar("Read", bound=Callable[..., Any])


@dataclass(frozen=True)
class Measurement:
    """A quantity, and how two methods are compared by it."""

    read: Callable[..., Any]
    """By its kind. run: a number of a finished run, None where that does not have it. score: the same, read
    item by item where the run left its predictions, which share their test items. loss: the same of the
    items' losses, of which predictions tell more than records do. curve: a run's falling
    losses, two methods are compared by their steps to one loss. slope: a run's number, of which the
    measurement is the slope over log2 of the rank. overhead: contender -> one number a process."""
    kind: Kind
    unit: str
    larger_is_better: bool
    contrast: Literal["difference", "ratio"]
    """How two methods are compared, seed by seed."""
    exact: bool
    """Fixed by the configuration: no spread over seeds."""


MEASUREMENTS: dict[str, Measurement] = {}
"""By the names that claims give them."""


def measurement(
    unit: str,
    *,
    larger_is_better: bool = False,
    kind: Kind = "run",
    contrast: Literal["difference", "ratio"] = "difference",
    exact: bool = False,
) -> Callable[[Read], Read]:
    """Enters a function under its name."""

    def enter(read: Read) -> Read:
        MEASUREMENTS[read.__name__] = Measurement(read, kind, unit, larger_is_better, contrast, exact)
        return read

    return enter


@measurement("loss", contrast="ratio")
def final_loss(record: RunRecord) -> float | None:
    """Mean of the last tenth of the steps."""
    return float(smooth(record.curve.loss)[-1]) if record.curve.loss else None


@measurement("loss", contrast="ratio")
def loss_area(record: RunRecord) -> float | None:
    """Area under the training loss over its length: the mean over all steps, of which one batch is a small
    part, so that there is nothing to smooth."""
    return statistics.fmean(record.curve.loss) if record.curve.loss else None


@measurement("points", larger_is_better=True, kind="score")
def score(record: RunRecord) -> float | None:
    """The main metric ×100; None where that is an error, be it a share of wrong answers."""
    metrics, scale = record.metrics, record.metrics.scale
    return 100 * metrics.best[metrics.main] if scale.percent and not scale.lower_is_better else None


@measurement("log2 of the error")
def error(record: RunRecord) -> float | None:
    """Of the main metric; of an error of 0 there is none, and `claims.decide.effects` says so."""
    metrics = record.metrics
    found = metrics.best[metrics.main]
    if not metrics.scale.lower_is_better or found < 0:
        return None
    return math.log2(found) if found else -math.inf


@measurement("rank, largest layer", larger_is_better=True)
def accumulated_rank(record: RunRecord) -> float | None:
    """Of weight now - pretrained weight."""
    return max(_ranks(record), default=None)


@measurement("× r", larger_is_better=True)
def accumulated_rank_over_r(record: RunRecord) -> float | None:
    """The same as a mean over the layers."""
    ranks = _ranks(record)
    return statistics.fmean(ranks) / record.rank if ranks and record.rank else None


@measurement("percent", larger_is_better=True)
def nonnegative_share(record: RunRecord) -> float | None:
    """Of the columns that were scaled, mean over the steps."""
    block = record.diagnostics.get("nonnegative_share")
    return 100 * statistics.fmean(block["share"]) if isinstance(block, dict) and block.get("share") else None


@measurement("percent", larger_is_better=True)
def gradient_rank_share(record: RunRecord) -> float | None:
    """Of layers and observations at which the gradient's rank is 2r or more, but for layers of which one
    position an input reaches the loss (`Observation.one_position`): the batch bounds theirs. None of
    records of schema 1, which do not name those layers."""
    r, named = record.rank, record.schema_version > 1
    ranks = [rank for seen in record.observations for rank in seen.judged_gradient_rank.values()]
    return 100 * statistics.fmean(rank >= 2 * r for rank in ranks) if ranks and r and named else None


@measurement("percent", exact=True)
def parameter_share(record: RunRecord) -> float | None:
    """The adapter's parameters, of the model's."""
    counts = record.parameters
    return 100 * counts.adapter / (counts.total - counts.adapter) if counts.adapter < counts.total else None


@measurement("percent", larger_is_better=True, exact=True)
def scores_saved(record: RunRecord) -> float | None:
    """Of the scores by which LoRA² chooses singular values."""
    saved = record.diagnostics.get("scores_saved")
    return 100 * saved if isinstance(saved, float) else None


@measurement("loss", contrast="ratio")
def held_out_loss(record: RunRecord) -> float | None:
    """Mean loss of the test items, beside a main metric that is another one."""
    metrics = record.metrics
    return metrics.best[metrics.held_out] if metrics.held_out else None


@measurement("loss", kind="loss", contrast="ratio")
def item_loss(record: RunRecord) -> float | None:
    """Of a test item, mean: nats of the right class, choice or answer, or the squared error.

    The proper score beside an accuracy, which counts the side of a threshold alone. Two methods are compared
    by the ratio of their means, seed by seed and item by item.
    """
    return mean_loss(record)


@measurement("nats a token")
def forgetting(record: RunRecord) -> float | None:
    """Rise of a causal model's loss on the general text."""
    return _forgotten(record, "loss")


@measurement("1 - CKA")
def drift(record: RunRecord) -> float | None:
    """Of an encoder's representations of the general text."""
    return _forgotten(record, "drift")


@measurement("steps", kind="curve", contrast="ratio")
def steps_to_loss(record: RunRecord) -> ArrayLike | None:
    """Until both methods have the higher of their final losses."""
    return losses(record)


@measurement("singular values", larger_is_better=True)
def first_feed_forward_lead(record: RunRecord) -> float | None:
    """Of the ranks that are left."""
    left = record.diagnostics.get("rank")
    return lead_of(left) if isinstance(left, dict) else None


@measurement("× the first")
def penalty_left(record: RunRecord) -> float | None:
    """Mean of the last tenth of the steps."""
    penalty = record.curve.penalty
    return float(smooth(penalty)[-1]) / penalty[0] if penalty and penalty[0] > 0 else None


@measurement("loss per doubling", kind="slope")
def final_loss_slope(record: RunRecord) -> float | None:
    """Of the final loss."""
    return final_loss(record)


@measurement("log2 per doubling", larger_is_better=True, kind="slope")
def gradient_norm_slope(record: RunRecord) -> float | None:
    """Of the mean gradient norm."""
    norms = record.curve.gradient_norm
    return math.log2(statistics.fmean(norms)) if norms and statistics.fmean(norms) > 0 else None


@measurement("seconds", kind="overhead", contrast="ratio")
def step_time(record: Overhead) -> Mapping[str, Sequence[float]]:
    """A process's mean, which counts what is not done in every step."""
    return {label: means(processes) for label, processes in record.seconds.items()}


@measurement("MiB", kind="overhead", contrast="ratio")
def peak_memory(record: Overhead) -> Mapping[str, Sequence[float]]:
    """Of a process."""
    return record.peak_resident


def _forgotten(record: RunRecord, kind: str) -> float | None:
    found = record.forgetting
    return found.value if found and found.kind == kind else None


def _ranks(record: RunRecord) -> list[int]:
    """Of the probed layers, when they were last measured."""
    probes = [list(seen.accumulated_rank.values()) for seen in record.observations if seen.accumulated_rank]
    return probes[-1] if probes else []
