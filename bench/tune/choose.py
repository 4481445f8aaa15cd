"""What a trial has reached, and which one is best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rankbench import tasks
from rankbench.bench import models
from rankbench.bench.records import FailureRecord, Folders, Metrics, RunRecord, fingerprint, read_record
from rankbench.bench.suite import RunSpec
from rankbench.bench.suite.described import described

SURROUNDINGS = {"schema", "loop", "software", "device", "weights"}
"""Of a run's identity, what no suite says."""


@dataclass(frozen=True)
class Trial:
    """A trial that has ended."""

    spec: RunSpec
    loss: float
    """Less is better; infinite where it diverged or failed."""
    fingerprint: str
    metric: str = ""
    """What the loss is; empty where there is none."""

    @property
    def finished(self) -> bool:
        """Whether it can be chosen."""
        return math.isfinite(self.loss)


def ended(spec: RunSpec, folders: Folders, *, however: bool) -> Trial | None:
    """What is recorded of a trial; None where it is still to be done. A record counts whatever the packages
    and the machine were that made it: a choice is no number of a report. `however`: a failure counts even if
    it was for want of memory or of data, which may be there the next time.

    Raises RecordError for a corrupt record.
    """
    place, failure = folders.record(spec.cell), folders.failure(spec.cell)
    if place.exists() and _is_of(record := read_record(place, RunRecord), spec):
        metric, loss = score(record.metrics)
        return Trial(spec, loss, record.fingerprint, metric)
    if not failure.exists():
        return None
    failed = read_record(failure, FailureRecord)
    if (however and not failed.identity) or ((however or failed.comes_again) and _is_of(failed, spec)):
        return Trial(spec, math.inf, failed.fingerprint)
    return None


def score(metrics: Metrics) -> tuple[str, float]:
    """What a trial is judged by, and that as a loss: the held-out loss, or the main metric where the answers
    tell none."""
    name = metrics.held_out or metrics.main
    value = metrics.best[name]
    return name, value if metrics.scales[name].lower_is_better else -value


def best(trials: Iterable[Trial]) -> Trial | None:
    """The first of those with the least loss; None where no trial has finished."""
    found = [trial for trial in trials if trial.finished]
    return min(found, key=lambda trial: trial.loss) if found else None


def _is_of(record: RunRecord | FailureRecord, spec: RunSpec) -> bool:
    """Whether it is what the suite says now. A model's revision is in an identity by the weights alone, which
    are none of that; but a folder's name says nothing of what is in it."""
    if record.config.get("model", {}).get("revision") != spec.model.revision:
        return False
    if models.folder_identity(spec.model) not in (None, record.identity.get("weights")):
        return False
    parts: dict[str, Any] = described(spec, tasks.create(**spec.task).fingerprint())
    kept = {key: value for key, value in record.identity.items() if key not in SURROUNDINGS}
    return fingerprint(kept) == fingerprint(parts)
